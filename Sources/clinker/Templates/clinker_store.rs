//! The store interface of Clinker (clinker/driver.h, STORES), in Rust, beside `clinker.rs`.
#![allow(dead_code)]
use super::clinker::{Call, Code, Failure, Raw};
use std::ffi::{c_char, c_int, c_void, CStr, CString};

/// What a store knows of an object; `modified` in seconds since 1970, 0 if it is not known.
pub struct Object {
    pub name: String,
    pub size: u64,
    pub modified: i64,
}

/// A store: what the header says of each call holds here. Calls come from many threads at the same time. Names that the header refuses
/// do not get here.
pub trait Store: Sized + Sync {
    fn open(call: &Call) -> Result<Self, Failure>;
    fn capabilities(&self, call: &Call) -> Result<(), Failure>;
    fn stats(&self, call: &Call) -> Result<(), Failure>;
    /// Whole or absent, on stable storage on return. The hash is of the whole object, where the host knows it.
    fn put(&self, call: &Call, name: &str, slices: &[&[u8]], sha256: Option<&[u8; 32]>) -> Result<(), Failure>;
    /// Reads until the buffer is full or the object ends; the number of bytes.
    fn get(&self, call: &Call, name: &str, buffer: &mut [u8], offset: u64) -> Result<usize, Failure>;
    fn object(&self, call: &Call, name: &str) -> Result<Object, Failure>;
    /// Calls `each` in the order of the names' bytes, until it gives false.
    fn list(&self, call: &Call, prefix: &str, after: &str, each: &mut dyn FnMut(&Object) -> bool) -> Result<(), Failure>;
    /// One that is gone already counts as removed.
    fn remove(&self, call: &Call, name: &str) -> Result<(), Failure>;
}

/// clinker_slice.
#[repr(C)]
struct Slice {
    bytes: *const u8,
    length: u64,
}

/// clinker_object.
#[repr(C)]
struct RawObject {
    size: usize,
    name: *const c_char,
    length: u64,
    modified: i64,
}

type Function = extern "C" fn(*mut c_void, *mut Raw) -> c_int;
type Each = extern "C" fn(*mut c_void, *const RawObject) -> c_int;

/// clinker_store up to `remove`: what lies behind is zero. The host keeps objects of unknown size until it can put them.
#[repr(C)]
pub struct Table {
    abi: u32,
    size: u32,
    name: *const c_char,
    version: *const c_char,
    vendor: *const c_char,
    kind: u32,
    threads: u32,
    open: extern "C" fn(*mut Raw, *mut *mut c_void) -> c_int,
    close: extern "C" fn(*mut c_void),
    capabilities: Function,
    stats: Function,
    put: extern "C" fn(*mut c_void, *mut Raw, *const c_char, *const Slice, u32, *const [u8; 32]) -> c_int,
    get: extern "C" fn(*mut c_void, *mut Raw, *const c_char, *mut u8, u64, u64, *mut u64) -> c_int,
    stat_object: extern "C" fn(*mut c_void, *mut Raw, *const c_char, *mut RawObject) -> c_int,
    list: extern "C" fn(*mut c_void, *mut Raw, *const c_char, *const c_char, Each, *mut c_void) -> c_int,
    remove: extern "C" fn(*mut c_void, *mut Raw, *const *const c_char, u32) -> c_int,
}

fn text<'a>(raw: *const c_char) -> Result<&'a str, Failure> {
    unsafe { CStr::from_ptr(raw) }.to_str().map_err(|_| Failure::new(Code::Invalid, "a text that is not UTF-8"))
}

/// The rule of the header.
fn name<'a>(raw: *const c_char) -> Result<&'a str, Failure> {
    let name = text(raw)?;
    let words: Vec<&str> = name.split('/').collect();
    let is_word = |word: &&str| {
        (1..=255).contains(&word.len()) && !word.starts_with('.') && !word.bytes().any(|byte| byte < 0x20 || byte == 0x7F)
    };
    if name.len() <= 1024 && words.len() <= 64 && words.iter().all(is_word) {
        Ok(name)
    } else {
        Err(Failure::new(Code::Invalid, "that is no name of an object"))
    }
}

fn bytes<'a>(start: *const u8, length: u64) -> &'a [u8] {
    if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, length as usize) } }
}

/// Makes the table of a store; the texts end with a zero.
pub fn table<S: Store>(name_: &'static [u8], version: &'static [u8], vendor: &'static [u8]) -> *const Table {
    fn store<'a, S>(instance: *mut c_void) -> &'a S {
        unsafe { &*(instance as *const S) }
    }
    extern "C" fn open<S: Store>(raw: *mut Raw, instance: *mut *mut c_void) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let store = Box::new(S::open(&call)?);
            unsafe { *instance = Box::into_raw(store) as *mut c_void };
            Ok(())
        })
    }
    extern "C" fn close<S: Store>(instance: *mut c_void) {
        drop(unsafe { Box::from_raw(instance as *mut S) })
    }
    extern "C" fn capabilities<S: Store>(instance: *mut c_void, raw: *mut Raw) -> c_int {
        let call = Call(raw);
        call.run(|| store::<S>(instance).capabilities(&call))
    }
    extern "C" fn stats<S: Store>(instance: *mut c_void, raw: *mut Raw) -> c_int {
        let call = Call(raw);
        call.run(|| store::<S>(instance).stats(&call))
    }
    extern "C" fn put<S: Store>(
        instance: *mut c_void, raw: *mut Raw, object: *const c_char, slices: *const Slice, count: u32, sha256: *const [u8; 32],
    ) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let slices = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(slices, count as usize) } };
            let slices: Vec<&[u8]> = slices.iter().map(|slice| bytes(slice.bytes, slice.length)).collect();
            store::<S>(instance).put(&call, name(object)?, &slices, unsafe { sha256.as_ref() })
        })
    }
    extern "C" fn get<S: Store>(
        instance: *mut c_void, raw: *mut Raw, object: *const c_char, buffer: *mut u8, offset: u64, length: u64, done: *mut u64,
    ) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let buffer = if length == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(buffer, length as usize) } };
            let count = store::<S>(instance).get(&call, name(object)?, buffer, offset)?;
            unsafe { *done = count as u64 };
            Ok(())
        })
    }
    extern "C" fn stat_object<S: Store>(instance: *mut c_void, raw: *mut Raw, object: *const c_char, found: *mut RawObject) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let object = store::<S>(instance).object(&call, name(object)?)?;
            unsafe { ((*found).length, (*found).modified) = (object.size, object.modified) };
            Ok(())
        })
    }
    extern "C" fn list<S: Store>(
        instance: *mut c_void, raw: *mut Raw, prefix: *const c_char, after: *const c_char, each: Each, opaque: *mut c_void,
    ) -> c_int {
        let call = Call(raw);
        let mut stopped = 0;
        let code = call.run(|| {
            store::<S>(instance).list(&call, text(prefix)?, text(after)?, &mut |object| {
                let Ok(name) = CString::new(object.name.as_str()) else { return true };
                let size = std::mem::size_of::<RawObject>();
                let raw = RawObject { size, name: name.as_ptr(), length: object.size, modified: object.modified };
                stopped = each(opaque, &raw);
                stopped == 0
            })
        });
        if code != 0 { code } else { stopped }
    }
    extern "C" fn remove<S: Store>(instance: *mut c_void, raw: *mut Raw, names: *const *const c_char, count: u32) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let names = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(names, count as usize) } };
            let mut first = Ok(());
            for object in names {
                let result = name(*object).and_then(|object| store::<S>(instance).remove(&call, object));
                if first.is_ok() {
                    first = result;
                }
            }
            first
        })
    }
    Box::into_raw(Box::new(Table {
        abi: 1,
        size: std::mem::size_of::<Table>() as u32,
        name: name_.as_ptr() as *const c_char,
        version: version.as_ptr() as *const c_char,
        vendor: vendor.as_ptr() as *const c_char,
        kind: 2,
        threads: 1,
        open: open::<S>,
        close: close::<S>,
        capabilities: capabilities::<S>,
        stats: stats::<S>,
        put: put::<S>,
        get: get::<S>,
        stat_object: stat_object::<S>,
        list: list::<S>,
        remove: remove::<S>,
    }))
}
