//! The driver interface of Clinker (clinker/driver.h), ABI version 1, in Rust. Calls that are left out here may be added as
//! the header declares them: the host takes what the table's size covers.
#![allow(dead_code)]
use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null;

/// What the host does next; clinker_code.
#[derive(Clone, Copy)]
#[repr(i32)]
pub enum Code {
    Error = 1,
    Retry,
    Busy,
    NotFound,
    Exists,
    NoSpace,
    Unsupported,
    BadConfiguration,
    Invalid,
    Cancelled,
}

/// A code for the host and a message for the log.
pub struct Failure(Code, String);

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Failure(code, message.into())
    }
}

/// clinker_host: functions of the host, reached through the call.
#[repr(C)]
struct Host {
    size: usize,
    string: extern "C" fn(*mut Raw, *const c_char) -> *const c_char,
    integer: extern "C" fn(*mut Raw, *const c_char, *mut i64) -> c_int,
    real: extern "C" fn(*mut Raw, *const c_char, *mut f64) -> c_int,
    boolean: extern "C" fn(*mut Raw, *const c_char, *mut c_int) -> c_int,
    length: extern "C" fn(*mut Raw, *const c_char) -> i64,
    set_string: extern "C" fn(*mut Raw, *const c_char, *const c_char),
    set_secret: extern "C" fn(*mut Raw, *const c_char, *const c_char),
    set_integer: extern "C" fn(*mut Raw, *const c_char, i64),
    set_real: extern "C" fn(*mut Raw, *const c_char, f64),
    set_boolean: extern "C" fn(*mut Raw, *const c_char, c_int),
    set_null: extern "C" fn(*mut Raw, *const c_char),
    begin_object: extern "C" fn(*mut Raw, *const c_char),
    begin_list: extern "C" fn(*mut Raw, *const c_char),
    end: extern "C" fn(*mut Raw),
    log: extern "C" fn(*mut Raw, c_int, *const c_char),
    progress: extern "C" fn(*mut Raw, u64, u64),
    cancelled: extern "C" fn(*mut Raw) -> c_int,
    fail: extern "C" fn(*mut Raw, c_int, *const c_char) -> c_int,
}

/// clinker_call.
#[repr(C)]
pub struct Raw {
    host: *const Host,
    reserved: *mut c_void,
}

/// One call of the host: arguments and results by name. Valid until the function returns.
pub struct Call(pub(crate) *mut Raw);

fn text(value: &str) -> CString {
    CString::new(value.replace('\0', "")).unwrap_or_default()
}

impl Call {
    fn host(&self) -> &Host {
        unsafe { &*(*self.0).host }
    }

    pub fn string(&self, name: &str) -> Option<&str> {
        let value = (self.host().string)(self.0, text(name).as_ptr());
        if value.is_null() { None } else { unsafe { CStr::from_ptr(value) }.to_str().ok() }
    }

    pub fn integer(&self, name: &str) -> Option<i64> {
        let mut value = 0;
        if (self.host().integer)(self.0, text(name).as_ptr(), &mut value) != 0 { Some(value) } else { None }
    }

    pub fn set_string(&self, name: &str, value: &str) {
        (self.host().set_string)(self.0, text(name).as_ptr(), text(value).as_ptr())
    }

    pub fn set_secret(&self, name: &str, value: &str) {
        (self.host().set_secret)(self.0, text(name).as_ptr(), text(value).as_ptr())
    }

    pub fn set_integer(&self, name: &str, value: i64) {
        (self.host().set_integer)(self.0, text(name).as_ptr(), value)
    }

    pub fn set_real(&self, name: &str, value: f64) {
        (self.host().set_real)(self.0, text(name).as_ptr(), value)
    }

    pub fn set_boolean(&self, name: &str, value: bool) {
        (self.host().set_boolean)(self.0, text(name).as_ptr(), value as c_int)
    }

    /// An object whose members the closure sets; items of a list have no name.
    pub fn object(&self, name: Option<&str>, members: impl FnOnce()) {
        let name = name.map(text);
        (self.host().begin_object)(self.0, name.as_ref().map_or(null(), |name| name.as_ptr()));
        members();
        (self.host().end)(self.0)
    }

    pub fn list(&self, name: &str, items: impl FnOnce()) {
        (self.host().begin_list)(self.0, text(name).as_ptr());
        items();
        (self.host().end)(self.0)
    }

    pub fn progress(&self, done: u64, total: u64) {
        (self.host().progress)(self.0, done, total)
    }

    pub fn is_cancelled(&self) -> bool {
        (self.host().cancelled)(self.0) != 0
    }

    /// No panic may leave a plugin.
    pub(crate) fn run(&self, body: impl FnOnce() -> Result<(), Failure>) -> c_int {
        match catch_unwind(AssertUnwindSafe(body)) {
            Ok(Ok(())) => 0,
            Ok(Err(Failure(code, message))) => (self.host().fail)(self.0, code as c_int, text(&message).as_ptr()),
            Err(_) => (self.host().fail)(self.0, Code::Error as c_int, text("the driver panicked").as_ptr()),
        }
    }
}

/// A driver: what the header says of each call holds here.
pub trait Driver: Sized {
    fn open(call: &Call) -> Result<Self, Failure>;
    fn capabilities(&self, call: &Call) -> Result<(), Failure>;
    fn stats(&self, call: &Call) -> Result<(), Failure>;
    fn create_volume(&self, call: &Call) -> Result<(), Failure>;
    fn delete_volume(&self, call: &Call) -> Result<(), Failure>;
    fn extend_volume(&self, call: &Call) -> Result<(), Failure>;
    fn connect_volume(&self, call: &Call) -> Result<(), Failure>;
    fn open_handle(&self, call: &Call, writable: bool) -> Result<Box<dyn Handle>, Failure>;
}

/// A volume's bytes.
pub trait Handle {
    fn size(&self) -> Result<u64, Failure>;
    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Failure>;
    fn write(&self, buffer: &[u8], offset: u64) -> Result<(), Failure>;
    fn flush(&self) -> Result<(), Failure>;
}

type Function = Option<extern "C" fn(*mut c_void, *mut Raw) -> c_int>;

/// clinker_driver up to `write`; what lies behind is zero, as for a driver that was built before it was added.
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
    create_volume: Function,
    delete_volume: Function,
    extend_volume: Function,
    clone_and_snapshots: [Function; 5],
    exports: [Function; 3],
    connect_volume: Function,
    disconnect_volume: Function,
    manage_and_fence: [Function; 4],
    open_handle: extern "C" fn(*mut c_void, *mut Raw, u32, *mut *mut c_void) -> c_int,
    close_handle: extern "C" fn(*mut c_void),
    get_size: extern "C" fn(*mut c_void, *mut Raw, *mut u64) -> c_int,
    block_size: *const c_void,
    read: extern "C" fn(*mut c_void, *mut Raw, *mut c_void, u64, u64) -> c_int,
    write: extern "C" fn(*mut c_void, *mut Raw, *const c_void, u64, u64) -> c_int,
    zero: *const c_void,
    discard: *const c_void,
    flush: Function,
}

/// Makes the table of a driver; the texts end with a zero.
pub fn table<D: Driver>(name: &'static [u8], version: &'static [u8], vendor: &'static [u8]) -> *const Table {
    macro_rules! function {
        ($method:ident) => {{
            extern "C" fn call<D: Driver>(instance: *mut c_void, raw: *mut Raw) -> c_int {
                let call = Call(raw);
                call.run(|| unsafe { &*(instance as *const D) }.$method(&call))
            }
            Some(call::<D> as extern "C" fn(*mut c_void, *mut Raw) -> c_int)
        }};
    }
    extern "C" fn open<D: Driver>(raw: *mut Raw, instance: *mut *mut c_void) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let driver = Box::new(D::open(&call)?);
            unsafe { *instance = Box::into_raw(driver) as *mut c_void };
            Ok(())
        })
    }
    extern "C" fn close<D: Driver>(instance: *mut c_void) {
        drop(unsafe { Box::from_raw(instance as *mut D) })
    }
    extern "C" fn open_handle<D: Driver>(instance: *mut c_void, raw: *mut Raw, flags: u32, handle: *mut *mut c_void) -> c_int {
        let call = Call(raw);
        call.run(|| {
            let opened = unsafe { &*(instance as *const D) }.open_handle(&call, flags & 1 != 0)?;
            unsafe { *handle = Box::into_raw(Box::new(opened)) as *mut c_void };
            Ok(())
        })
    }
    Box::into_raw(Box::new(Table {
        abi: 1,
        size: std::mem::size_of::<Table>() as u32,
        name: name.as_ptr() as *const c_char,
        version: version.as_ptr() as *const c_char,
        vendor: vendor.as_ptr() as *const c_char,
        kind: 1,
        threads: 1,
        open: open::<D>,
        close: close::<D>,
        capabilities: function!(capabilities),
        stats: function!(stats),
        create_volume: function!(create_volume),
        delete_volume: function!(delete_volume),
        extend_volume: function!(extend_volume),
        clone_and_snapshots: [None; 5],
        exports: [None; 3],
        connect_volume: function!(connect_volume),
        disconnect_volume: None,
        manage_and_fence: [None; 4],
        open_handle: open_handle::<D>,
        close_handle,
        get_size,
        block_size: null(),
        read,
        write,
        zero: null(),
        discard: null(),
        flush: Some(flush),
    }))
}

fn handle<'a>(raw: *mut c_void) -> &'a dyn Handle {
    unsafe { (*(raw as *const Box<dyn Handle>)).as_ref() }
}

extern "C" fn close_handle(raw: *mut c_void) {
    drop(unsafe { Box::from_raw(raw as *mut Box<dyn Handle>) })
}

extern "C" fn get_size(raw: *mut c_void, call: *mut Raw, bytes: *mut u64) -> c_int {
    Call(call).run(|| {
        unsafe { *bytes = handle(raw).size()? };
        Ok(())
    })
}

extern "C" fn read(raw: *mut c_void, call: *mut Raw, buffer: *mut c_void, offset: u64, length: u64) -> c_int {
    Call(call).run(|| handle(raw).read(unsafe { std::slice::from_raw_parts_mut(buffer as *mut u8, length as usize) }, offset))
}

extern "C" fn write(raw: *mut c_void, call: *mut Raw, buffer: *const c_void, offset: u64, length: u64) -> c_int {
    Call(call).run(|| handle(raw).write(unsafe { std::slice::from_raw_parts(buffer as *const u8, length as usize) }, offset))
}

extern "C" fn flush(raw: *mut c_void, call: *mut Raw) -> c_int {
    Call(call).run(|| handle(raw).flush())
}

/// Keeps the table's size from being cut off in the middle of a member.
const _: () = assert!(std::mem::size_of::<Table>() % std::mem::size_of::<*mut c_void>() == 0);
