//! example: a storage driver for Clinker. It keeps volumes in this machine's memory, so that all of it works before you put
//! your own storage in its place. What it leaves out (clones, for one) the host does over its block handles.
mod clinker;
use clinker::{Call, Code, Driver, Failure, Handle, Table};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// An instance: no globals, for one process may open several.
struct Example {
    directory: PathBuf,
}

/// What an error means for the host: it decides by the code what to do next.
fn failure(error: std::io::Error) -> Failure {
    let code = match (error.kind(), error.raw_os_error()) {
        (ErrorKind::NotFound, _) => Code::NotFound,
        (_, Some(28)) => Code::NoSpace,
        _ => Code::Error,
    };
    Failure::new(code, error.to_string())
}

impl Example {
    /// Names come from the host, yet none may lead elsewhere.
    fn path(&self, call: &Call) -> Result<PathBuf, Failure> {
        match call.string("volume.name") {
            Some(name) if !name.is_empty() && !name.starts_with('.') && !name.contains('/') => Ok(self.directory.join(name)),
            _ => Err(Failure::new(Code::Invalid, "no name of a volume")),
        }
    }

    /// May be called again after a crash: what has its size already stays as it is.
    fn size(&self, call: &Call, argument: &str, create: bool) -> Result<(), Failure> {
        let wanted = match call.integer(argument) {
            Some(size) if size > 0 => (size as u64) << 30,
            _ => return Err(Failure::new(Code::Invalid, format!("{argument} must be a number of GiB"))),
        };
        let file = OpenOptions::new().read(true).write(true).create(create).open(self.path(call)?).map_err(failure)?;
        if file.metadata().map_err(failure)?.len() < wanted {
            file.set_len(wanted).map_err(failure)?;
        }
        Ok(())
    }
}

impl Driver for Example {
    fn open(call: &Call) -> Result<Self, Failure> {
        let directory = PathBuf::from(call.string("directory").unwrap_or("/dev/shm/clinker-example"));
        std::fs::create_dir_all(&directory).map_err(|error| Failure::new(Code::BadConfiguration, format!("directory: {error}")))?;
        Ok(Example { directory })
    }

    fn capabilities(&self, call: &Call) -> Result<(), Failure> {
        call.set_string("storage_protocol", "memory");
        call.set_boolean("thin_provisioning_support", true);
        Ok(())
    }

    fn stats(&self, call: &Call) -> Result<(), Failure> {
        let files = std::fs::read_dir(&self.directory).map_err(failure)?;
        let bytes: u64 = files.flatten().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
        let provisioned = bytes as f64 / (1u64 << 30) as f64;
        call.list("pools", || {
            call.object(None, || {
                call.set_string("name", "example");
                call.set_real("total_capacity_gb", 100.0);
                call.set_real("free_capacity_gb", 100.0);
                call.set_real("provisioned_capacity_gb", provisioned);
            })
        });
        Ok(())
    }

    fn create_volume(&self, call: &Call) -> Result<(), Failure> {
        self.size(call, "volume.size", true)
    }

    fn extend_volume(&self, call: &Call) -> Result<(), Failure> {
        self.size(call, "new_size", false)
    }

    fn delete_volume(&self, call: &Call) -> Result<(), Failure> {
        match std::fs::remove_file(self.path(call)?) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failure(error)),
            _ => Ok(()),
        }
    }

    /// How a client on the connector's host gets at the volume: what os-brick is given.
    fn connect_volume(&self, call: &Call) -> Result<(), Failure> {
        let path = self.path(call)?;
        path.metadata().map_err(failure)?;
        call.set_string("driver_volume_type", "local");
        call.object(Some("data"), || call.set_string("device_path", &path.to_string_lossy()));
        Ok(())
    }

    fn open_handle(&self, call: &Call, writable: bool) -> Result<Box<dyn Handle>, Failure> {
        Ok(Box::new(OpenOptions::new().read(true).write(writable).open(self.path(call)?).map_err(failure)?))
    }
}

/// Block handles: with these the host clones, and copies between backends.
impl Handle for File {
    fn size(&self) -> Result<u64, Failure> {
        Ok(self.metadata().map_err(failure)?.len())
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Failure> {
        self.read_exact_at(buffer, offset).map_err(failure)
    }

    fn write(&self, buffer: &[u8], offset: u64) -> Result<(), Failure> {
        // A file would grow with what is written behind its end; a volume does not.
        let size = self.size()?;
        if offset > size || buffer.len() as u64 > size - offset {
            return Err(Failure::new(Code::Invalid, format!("the volume ends at {size}")));
        }
        self.write_all_at(buffer, offset).map_err(failure)
    }

    fn flush(&self) -> Result<(), Failure> {
        self.sync_all().map_err(failure)
    }
}

/// The plugin's one symbol.
#[no_mangle]
pub extern "C" fn clinker_driver_v1() -> *const Table {
    clinker::table::<Example>(b"example\0", b"0.1\0", b"You\0")
}
