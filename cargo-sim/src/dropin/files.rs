//! Folders brought into a wished state with as few writes as possible: what is as wished keeps its modification time,
//! by which cargo decides what to build again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
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

/// Writes a file unless it has this text already.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) && fs::read(path)? == text {
        return Ok(());
    }
    remove(path)?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
