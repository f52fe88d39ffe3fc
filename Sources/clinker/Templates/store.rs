//! example: a store of backups for Clinker. It keeps objects as files of a directory in this machine's memory, so that all of it works
//! before you put your own storage in its place.
mod clinker;
mod clinker_store;

use clinker::{Call, Code, Failure};
use clinker_store::{Object, Store, Table};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

struct Example {
    directory: PathBuf,
    count: AtomicU64,
}

/// What an error means for the host: it decides by the code what to do next.
fn failure(error: std::io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::Exists,
        ErrorKind::PermissionDenied => Code::BadConfiguration,
        _ => match error.raw_os_error() {
            Some(20) => Code::NotFound,     // ENOTDIR
            Some(21 | 39) => Code::Exists,  // EISDIR, ENOTEMPTY
            Some(28) => Code::NoSpace,      // ENOSPC
            Some(36) => Code::Invalid,      // ENAMETOOLONG
            _ => Code::Error,
        },
    };
    Failure::new(code, error.to_string())
}

impl Store for Example {
    fn open(call: &Call) -> Result<Self, Failure> {
        let directory = PathBuf::from(call.string("directory").unwrap_or("/dev/shm/clinker-example"));
        fs::create_dir_all(directory.join(".partial"))
            .map_err(|error| Failure::new(Code::BadConfiguration, format!("directory: {error}")))?;
        Ok(Example { directory, count: AtomicU64::new(0) })
    }

    fn capabilities(&self, call: &Call) -> Result<(), Failure> {
        call.set_string("storage_protocol", "memory");
        call.set_boolean("consistent_list", true);
        Ok(())
    }

    fn stats(&self, call: &Call) -> Result<(), Failure> {
        self.directory.metadata().map_err(failure)?;
        // Negative: not known.
        call.set_real("total_capacity_gb", -1.0);
        call.set_real("free_capacity_gb", -1.0);
        Ok(())
    }

    /// A hidden file, which gets its name when it is whole: nobody ever sees a part of it.
    fn put(&self, _call: &Call, name: &str, slices: &[&[u8]], _sha256: Option<&[u8; 32]>) -> Result<(), Failure> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let unique = format!(".partial/{}-{:p}-{number}", std::process::id(), self);
        let hidden = self.directory.join(unique);
        let written = (|| {
            let mut file = File::create(&hidden)?;
            for slice in slices {
                file.write_all(slice)?;
            }
            file.sync_all()
        })();
        let result = written.map_err(failure).and_then(|()| self.give(&hidden, name));
        if result.is_err() {
            let _ = fs::remove_file(&hidden);
        }
        result
    }

    fn get(&self, call: &Call, name: &str, buffer: &mut [u8], offset: u64) -> Result<usize, Failure> {
        self.object(call, name)?;
        let file = File::open(self.directory.join(name)).map_err(failure)?;
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], offset + done as u64).map_err(failure)? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn object(&self, _call: &Call, name: &str) -> Result<Object, Failure> {
        let info = self.directory.join(name).symlink_metadata().map_err(failure)?;
        if !info.is_file() {
            return Err(Failure::new(Code::NotFound, format!("there is no object {name}")));
        }
        Ok(Object { name: name.to_string(), size: info.len(), modified: info.mtime() })
    }

    fn list(&self, call: &Call, prefix: &str, after: &str, each: &mut dyn FnMut(&Object) -> bool) -> Result<(), Failure> {
        self.directory.metadata().map_err(|error| Failure::new(Code::BadConfiguration, error.to_string()))?;
        self.walk(call, "", prefix, after, each);
        Ok(())
    }

    fn remove(&self, _call: &Call, name: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            // A folder is no object.
            Err(error) if error.kind() != ErrorKind::NotFound && !matches!(error.raw_os_error(), Some(20 | 21)) => {
                return Err(failure(error))
            }
            _ => {}
        }
        // Folders that became empty.
        let mut folder = path.parent();
        while let Some(path) = folder.filter(|path| *path != self.directory.as_path()) {
            if fs::remove_dir(path).is_err() {
                break;
            }
            folder = path.parent();
        }
        Ok(())
    }
}

impl Example {
    /// The folders of a name are made, and may be removed by others before there is a file in them.
    fn give(&self, hidden: &Path, name: &str) -> Result<(), Failure> {
        let path = self.directory.join(name);
        for _ in 0..1000 {
            if let Some(folder) = path.parent() {
                let _ = fs::create_dir_all(folder); // if it cannot be made, the rename says why
            }
            match fs::rename(hidden, &path) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.raw_os_error() == Some(21) && fs::remove_dir(&path).is_ok() => {}
                Err(error) if error.raw_os_error() == Some(20) => {
                    return Err(Failure::new(Code::Exists, format!("{name}: an object has the name of a folder")))
                }
                Err(error) => return Err(failure(error)),
            }
        }
        Err(Failure::new(Code::Retry, format!("{name}: its folder is removed as often as it is made")))
    }

    /// Walks a folder, whose name is empty or ends with a slash, in the order of names; false ends it.
    fn walk(&self, call: &Call, folder: &str, prefix: &str, after: &str, each: &mut dyn FnMut(&Object) -> bool) -> bool {
        let Ok(entries) = fs::read_dir(self.directory.join(folder)) else { return true }; // removed meanwhile
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| {
                let word = entry.file_name().into_string().ok().filter(|word| !word.starts_with('.'))?;
                // A folder comes where its name with a slash does.
                let slash = if entry.file_type().ok()?.is_dir() { "/" } else { "" };
                Some(format!("{folder}{word}{slash}"))
            })
            .collect();
        names.sort();
        for name in names {
            if name.ends_with('/') {
                if (name.starts_with(prefix) || prefix.starts_with(&name)) && !self.walk(call, &name, prefix, after, each) {
                    return false;
                }
            } else if name.starts_with(prefix) && name.as_str() > after {
                if let Ok(object) = self.object(call, &name) {
                    if !each(&object) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// The plugin's one symbol.
#[no_mangle]
pub extern "C" fn clinker_store_v1() -> *const Table {
    clinker_store::table::<Example>(b"example\0", b"0.1\0", b"You\0")
}
