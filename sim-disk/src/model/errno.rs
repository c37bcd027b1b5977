//! Linux's error numbers, as far as files need them.

use std::fmt;

/// An error number of Linux (`errno(3)`), the same on all its architectures for those named here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($value);)*

            /// Its name, such as `ENOENT`.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($value => stringify!($name),)*
                    _ => "E?",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory.";
    EINTR = 4, "Interrupted by a signal.";
    EIO = 5, "Input/output error.";
    ENXIO = 6, "There are no bytes from there on.";
    EBADF = 9, "The file is not open for this.";
    EAGAIN = 11, "Another's lock is in the way.";
    EACCES = 13, "Permission denied.";
    EBUSY = 16, "The root cannot be moved or removed.";
    EEXIST = 17, "File exists.";
    EXDEV = 18, "It is not on this disk.";
    ENODEV = 19, "Not a file.";
    ENOTDIR = 20, "Not a directory.";
    EISDIR = 21, "Is a directory.";
    EINVAL = 22, "Invalid argument.";
    EFBIG = 27, "File too large.";
    ENOSPC = 28, "No space left on device.";
    EMLINK = 31, "Too many links.";
    ENAMETOOLONG = 36, "File name too long.";
    ENOTEMPTY = 39, "Directory not empty.";
    ELOOP = 40, "Too many symbolic links on the way.";
    EOPNOTSUPP = 95, "Operation not supported.";
    EDQUOT = 122, "Disk quota exceeded.";
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Errno> for std::io::Error {
    fn from(e: Errno) -> Self {
        std::io::Error::from_raw_os_error(e.0)
    }
}
