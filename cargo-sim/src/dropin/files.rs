//! Folders brought into a wished state with as few writes as possible: what is as wished keeps its modification time,
//! by which cargo decides what to build again.

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, retry_on_intr};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is wished for at a path.
#[derive(Debug, PartialEq)]
pub enum Wish {
    File(Vec<u8>),
    Link(PathBuf),
    /// A folder whose entries are wished for one by one; others are removed.
    Folder,
    /// Whatever is there, if anything is.
    Keep,
}

/// Wishes by path, all relative to one folder. A folder comes before what is in it.
pub type Wishes = BTreeMap<PathBuf, Wish>;

/// Makes `folder` what is wished.
pub fn bring_about(folder: &Path, wishes: &Wishes) -> Result<(), String> {
    let told = |path: &Path| {
        let path = path.to_owned();
        move |e: io::Error| format!("{}: {e}", path.display())
    };
    make_folder(folder).map_err(told(folder))?;
    remove_unwished(folder, Path::new(""), wishes)?;
    for (name, wish) in wishes {
        let path = folder.join(name);
        match wish {
            Wish::File(text) => write(&path, text).map_err(told(&path))?,
            Wish::Link(to) => link(&path, to).map_err(told(&path))?,
            Wish::Folder => make_folder(&path).map_err(told(&path))?,
            Wish::Keep => {}
        }
    }
    Ok(())
}

fn remove_unwished(top: &Path, below: &Path, wishes: &Wishes) -> Result<(), String> {
    let folder = top.join(below);
    let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries.flatten() {
        let name = below.join(entry.file_name());
        match wishes.get(&name) {
            Some(Wish::Folder) if entry.file_type().is_ok_and(|t| t.is_dir()) => remove_unwished(top, &name, wishes)?,
            Some(_) => {}
            None => remove(&entry.path()).map_err(|e| format!("{}: {e}", entry.path().display()))?,
        }
    }
    Ok(())
}

/// Never follows a link.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
        fs::remove_file(path)?;
    }
    fs::create_dir_all(path)
}

fn link(path: &Path, to: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|found| found == to) {
        return Ok(());
    }
    remove(path)?;
    std::os::unix::fs::symlink(to, path)
}

/// Writes a file unless it has this text already. At no moment is it missing or half written: what ends this program between two
/// system calls leaves the old text or the new one.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let found = fs::symlink_metadata(path).ok();
    if found.as_ref().is_some_and(|found| found.is_file()) && fs::read(path)? == text {
        return Ok(());
    }
    // What a umask leaves of it, as of any new file.
    let fresh = fs::Permissions::from_mode(0o666);
    let beside = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".cargo-sim").permissions(fresh).tempfile_in(beside)?;
    file.write_all(text)?;
    match found {
        Some(found) if found.is_file() => file.as_file().set_permissions(found.permissions())?,
        // A rename replaces a link, and no folder.
        Some(found) if found.is_dir() => remove(path)?,
        _ => {}
    }
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Locks a folder against other processes of this program, which read and write what is in it. Calls `waiting` if one has it.
/// Where the file system has no locks there is none, as with cargo.
pub fn lock(folder: &Path, waiting: impl FnOnce()) -> io::Result<fs::File> {
    let file = fs::File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        waiting();
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn wishes(of: &[(&str, Wish)]) -> Wishes {
        let copy = |wish: &Wish| match wish {
            Wish::File(text) => Wish::File(text.clone()),
            Wish::Link(to) => Wish::Link(to.clone()),
            Wish::Folder => Wish::Folder,
            Wish::Keep => Wish::Keep,
        };
        of.iter().map(|(path, wish)| (PathBuf::from(path), copy(wish))).collect()
    }

    #[test]
    fn what_is_as_wished_is_not_written_and_what_is_not_wished_goes() {
        let place = tempfile::tempdir().expect("a folder");
        let elsewhere = tempfile::tempdir().expect("a folder");
        fs::write(elsewhere.path().join("treasure"), "x").expect("written");
        let file = |text: &str| Wish::File(text.into());
        let first = [
            ("a", Wish::Folder),
            ("a/one", file("1")),
            ("a/linked", Wish::Link(elsewhere.path().into())),
            ("kept", Wish::Keep),
            ("two", file("2")),
        ];
        bring_about(place.path(), &wishes(&first)).expect("made");
        fs::write(place.path().join("kept"), "mine").expect("written");
        let modified = || fs::metadata(place.path().join("a/one")).and_then(|m| m.modified()).expect("is there");
        let before = modified();

        let second = [("a", Wish::Folder), ("a/one", file("1")), ("kept", Wish::Keep), ("two", Wish::Folder)];
        bring_about(place.path(), &wishes(&second)).expect("made");
        assert_eq!(modified(), before);
        assert!(!place.path().join("a/linked").exists());
        assert!(place.path().join("two").is_dir());
        assert_eq!(fs::read(place.path().join("kept")).expect("is there"), b"mine");
        assert!(elsewhere.path().join("treasure").exists(), "links are removed, not followed");
    }

    /// A manifest of a user's was removed before it was written anew, and somebody pressed Ctrl-C between the two.
    #[test]
    fn a_file_that_is_written_anew_is_missing_at_no_moment() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("Cargo.toml");
        write(&path, b"0").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let (texts, over) = ([b"11111111", b"22222222"], AtomicBool::new(false));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let text = fs::read(&path).expect("it is there");
                    assert!(text == b"0" || texts.iter().any(|t| text == *t), "half of it: {text:?}");
                }
            });
            for i in 0..4000 {
                write(&path, texts[i % 2]).expect("written");
            }
            over.store(true, Ordering::Relaxed);
            reader.join().expect("it saw one of the texts each time");
        });
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!((mode & 0o777, fs::read_dir(place.path()).expect("a folder").count()), (0o640, 1));
    }
}
