//! A test binary as it was built, held open: another build, which somebody starts while its tests run, puts a new file in its
//! place, and the tests that are left are still those of the old one.
//!
//! Nothing is copied, and nothing has to be removed: the file lives for as long as somebody has it open. It does not stop a
//! linker that writes into the file that is there (mold does); that is refused when the next test begins.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

pub struct Executable {
    path: PathBuf,
    file: File,
    built: (u64, Option<SystemTime>),
}

impl Executable {
    /// What is at `path` now.
    pub fn open(path: PathBuf) -> Result<Executable, String> {
        let opened = File::open(&path).and_then(|file| Ok((mark(&file.metadata()?), file)));
        let (built, file) = opened.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Executable { path, file, built })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Executes it, whatever is at its path by now.
    pub fn command(&self) -> Result<Command, String> {
        let is_still = |io: io::Result<Metadata>| io.is_ok_and(|found| mark(&found) == self.built);
        let held = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let through_fd = Path::new(&held).exists();
        let now = if through_fd { self.file.metadata() } else { self.path.metadata() };
        if !is_still(now) {
            return Err(format!(
                "{}: another build wrote over it while its tests ran; run them again",
                self.path.display()
            ));
        }
        if !through_fd {
            return Ok(Command::new(&self.path));
        }
        let mut command = Command::new(held);
        command.arg0(&self.path);
        Ok(command)
    }
}

/// By this cargo knows a file that was written anew.
fn mark(found: &Metadata) -> (u64, Option<SystemTime>) {
    (found.len(), found.modified().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn printed(executable: &Executable) -> Result<Vec<u8>, String> {
        executable.command().map(|mut command| command.arg("x").output().expect("it starts").stdout)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_was_built_is_executed_also_where_another_has_taken_its_place() {
        let place = tempfile::tempdir().expect("a folder");
        let (path, other) = (place.path().join("built"), place.path().join("other"));
        fs::copy("/bin/echo", &path).expect("copied");
        fs::copy("/bin/false", &other).expect("copied");
        let built = Executable::open(path.clone()).expect("it is there");
        assert_eq!(printed(&built), Ok(b"x\n".to_vec()));
        fs::rename(&other, &path).expect("moved");
        assert_eq!(printed(&built), Ok(b"x\n".to_vec()));
        fs::remove_file(&path).expect("removed");
        assert_eq!(printed(&built), Ok(b"x\n".to_vec()));
    }

    #[test]
    fn what_was_written_over_is_refused() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("built");
        fs::write(&path, "one").expect("written");
        let built = Executable::open(path.clone()).expect("it is there");
        assert!(built.command().is_ok());
        fs::write(&path, "another").expect("written");
        assert!(built.command().is_err_and(|e| e.contains("another build wrote over it")));
    }
}
