//! The few things of the runner that differ between systems.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Connects to the socket at `path`; `None` if what is there is no socket.
#[cfg(unix)]
pub(super) fn connect(path: &Path) -> Option<io::Result<Box<dyn Write>>> {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixStream;
    let is_socket = std::fs::metadata(path).is_ok_and(|m| m.file_type().is_socket());
    is_socket.then(|| UnixStream::connect(path).map(|s| Box::new(s) as Box<dyn Write>))
}

#[cfg(not(unix))]
pub(super) fn connect(_: &Path) -> Option<io::Result<Box<dyn Write>>> {
    None
}

/// What the outer process reads: it stands where the standard input is.
#[cfg(unix)]
pub(super) fn pipe_to_outer() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdin().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(not(unix))]
pub(super) fn pipe_to_outer() -> io::Result<File> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// The folder that the test processes of one user share to keep to one number of jobs.
pub(super) fn shared_folder() -> PathBuf {
    #[cfg(unix)]
    let user = std::fs::metadata("/proc/self").map_or(0, |m| std::os::unix::fs::MetadataExt::uid(&m)).to_string();
    #[cfg(not(unix))]
    let user = std::env::var("USERNAME").unwrap_or_default();
    std::env::temp_dir().join(format!("sim-jobs-{user}"))
}
