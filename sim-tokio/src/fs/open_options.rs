//! How a file is opened.

use super::{File, bytes_of};
use sim_disk::{Handle, Op, OpenHow, submit};
use std::io;
use std::path::Path;

/// How a file is to be opened: as [`std::fs::OpenOptions`].
#[derive(Clone, Debug)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    truncate: bool,
    create: bool,
    create_new: bool,
    mode: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            read: false,
            write: false,
            append: false,
            truncate: false,
            create: false,
            create_new: false,
            mode: 0o666,
        }
    }
}

impl OpenOptions {
    /// Everything off.
    #[must_use]
    pub fn new() -> OpenOptions {
        OpenOptions::default()
    }

    /// For reading.
    pub fn read(&mut self, read: bool) -> &mut OpenOptions {
        self.read = read;
        self
    }

    /// For writing.
    pub fn write(&mut self, write: bool) -> &mut OpenOptions {
        self.write = write;
        self
    }

    /// For writing at the end, wherever that is at each write.
    pub fn append(&mut self, append: bool) -> &mut OpenOptions {
        self.append = append;
        self
    }

    /// An existing file is emptied.
    pub fn truncate(&mut self, truncate: bool) -> &mut OpenOptions {
        self.truncate = truncate;
        self
    }

    /// A missing file is created.
    pub fn create(&mut self, create: bool) -> &mut OpenOptions {
        self.create = create;
        self
    }

    /// The file is created and must not exist; `create` and `truncate` then mean nothing.
    pub fn create_new(&mut self, create_new: bool) -> &mut OpenOptions {
        self.create_new = create_new;
        self
    }

    /// The permissions of a file that is created, before the umask (022) takes some away. 0o666 unless set.
    #[cfg(unix)]
    pub fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.mode = mode;
        self
    }

    /// Opens the file.
    ///
    /// # Errors
    /// `InvalidInput` for combinations that std refuses, before anything is opened: neither reading nor writing; creating or
    /// emptying without writing; emptying while appending. Else what open(2) says: `NotFound`, `AlreadyExists`,
    /// `IsADirectory` (a directory can be opened for reading alone, to sync it), `NotADirectory`, `StorageFull`.
    pub async fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let how = self.how()?;
        let reply = submit(Op::Open(bytes_of(path.as_ref()), how)).await?;
        Ok(File::new(Handle::of(reply)))
    }

    /// What std's `get_access_mode` and `get_creation_mode` allow (library/std/src/sys/fs/unix.rs).
    fn how(&self) -> io::Result<OpenHow> {
        let Self { read, write, append, truncate, create, create_new, mode } = *self;
        let makes = truncate || create || create_new;
        let refused = match (write, append) {
            (false, false) => !read || makes,
            (_, true) => truncate && !create_new,
            (true, false) => false,
        };
        if refused {
            return Err(io::Error::from_raw_os_error(sim_disk::Errno::EINVAL.0));
        }
        Ok(OpenHow {
            read,
            write: write || append,
            append,
            truncate: truncate && !create_new,
            create: create || create_new,
            exclusive: create_new,
            mode: mode & 0o7777 & !super::UMASK,
            ..OpenHow::default()
        })
    }
}
