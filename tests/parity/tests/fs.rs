//! Files: what a program reads back, and which error it gets for what.

// Such options are what one body is about.
#![allow(clippy::nonsensical_open_options, clippy::suspicious_open_options)]

use parity::real::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use std::io::{ErrorKind, SeekFrom};
#[allow(unused_imports)] // the simulated Metadata has these as methods of its own
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// An empty folder.
macro_rules! folder {
    ($name:literal) => {{
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join($name);
        let _ = tokio::fs::remove_dir_all(&folder).await;
        tokio::fs::create_dir_all(&folder).await.unwrap();
        folder
    }};
}

parity::both! { running:
    async fn what_was_written_is_read() {
        let path = folder!("read").join("a");
        tokio::fs::write(&path, b"hello").await.unwrap();
        assert_eq!(tokio::fs::read(&path).await.unwrap(), b"hello");
        assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), "hello");
        tokio::fs::write(&path, b"hi").await.unwrap();
        assert_eq!(tokio::fs::read(&path).await.unwrap(), b"hi");
    }

    async fn what_is_not_there_is_not_found() {
        let path = folder!("missing").join("a");
        assert_eq!(tokio::fs::read(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tokio::fs::File::open(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tokio::fs::remove_file(&path).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tokio::fs::metadata(&path).await.unwrap_err().raw_os_error(), Some(2));
        assert_eq!(tokio::fs::rename(&path, path.with_extension("b")).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(tokio::fs::write(path.join("b"), b"").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!tokio::fs::try_exists(&path).await.unwrap());
    }

    async fn text_must_be_utf8() {
        let path = folder!("utf8").join("a");
        tokio::fs::write(&path, [0xff]).await.unwrap();
        assert_eq!(tokio::fs::read_to_string(&path).await.unwrap_err().kind(), ErrorKind::InvalidData);
    }

    async fn a_folder_is_no_file() {
        let folder = folder!("folder");
        assert_eq!(tokio::fs::read(&folder).await.unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(tokio::fs::File::create(&folder).await.unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(tokio::fs::remove_file(&folder).await.unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    async fn a_file_is_no_folder() {
        let path = folder!("file").join("a");
        tokio::fs::write(&path, b"").await.unwrap();
        assert_eq!(tokio::fs::write(path.join("b"), b"").await.unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(tokio::fs::read_dir(&path).await.unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(tokio::fs::remove_dir(&path).await.unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(tokio::fs::create_dir(&path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    async fn create_new_insists() {
        let path = folder!("new").join("a");
        tokio::fs::File::create_new(&path).await.unwrap();
        assert_eq!(tokio::fs::File::create_new(&path).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    async fn options_must_make_sense() {
        let path = folder!("options").join("a");
        let neither = tokio::fs::OpenOptions::new().open(&path).await.unwrap_err();
        assert_eq!(neither.kind(), ErrorKind::InvalidInput);
        let unwritable = tokio::fs::OpenOptions::new().read(true).create(true).open(&path).await.unwrap_err();
        assert_eq!(unwritable.kind(), ErrorKind::InvalidInput);
        let both = tokio::fs::OpenOptions::new().append(true).truncate(true).open(&path).await.unwrap_err();
        assert_eq!(both.kind(), ErrorKind::InvalidInput);
    }

    async fn appending_goes_to_the_end() {
        let path = folder!("append").join("a");
        tokio::fs::write(&path, b"one").await.unwrap();
        let mut file = tokio::fs::OpenOptions::new().append(true).open(&path).await.unwrap();
        file.write_all(b"two").await.unwrap();
        file.flush().await.unwrap();
        assert_eq!(tokio::fs::read(&path).await.unwrap(), b"onetwo");
    }

    async fn seeking_finds_its_place() {
        let path = folder!("seek").join("a");
        let mut file =
            tokio::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).await.unwrap();
        file.write_all(b"0123456789").await.unwrap();
        assert_eq!(file.seek(SeekFrom::Start(3)).await.unwrap(), 3);
        let mut two = [0; 2];
        file.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"34");
        assert_eq!(file.seek(SeekFrom::Current(-1)).await.unwrap(), 4);
        assert_eq!(file.seek(SeekFrom::End(-2)).await.unwrap(), 8);
        let mut rest = String::new();
        file.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "89");
        assert_eq!(file.seek(SeekFrom::Current(-100)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    async fn a_hole_reads_as_zeros() {
        let path = folder!("hole").join("a");
        let mut file = tokio::fs::File::create(&path).await.unwrap();
        file.seek(SeekFrom::Start(4)).await.unwrap();
        file.write_all(b"x").await.unwrap();
        file.sync_all().await.unwrap();
        assert_eq!(tokio::fs::read(&path).await.unwrap(), b"\0\0\0\0x");
        file.set_len(2).await.unwrap();
        assert_eq!(tokio::fs::read(&path).await.unwrap(), b"\0\0");
        file.set_len(3).await.unwrap();
        assert_eq!(file.metadata().await.unwrap().len(), 3);
    }

    async fn the_end_of_a_file_is_an_error_to_read_exact() {
        let path = folder!("eof").join("a");
        tokio::fs::write(&path, b"abc").await.unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        let mut four = [0; 4];
        assert_eq!(file.read_exact(&mut four).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(file.read(&mut four).await.unwrap(), 0);
    }

    async fn a_file_opened_to_read_cannot_be_written() {
        let path = folder!("readonly").join("a");
        tokio::fs::write(&path, b"abc").await.unwrap();
        let mut file = tokio::fs::File::open(&path).await.unwrap();
        let written = file.write_all(b"x").await;
        let flushed = file.flush().await;
        assert_eq!(written.and(flushed).unwrap_err().raw_os_error(), Some(9));
        assert_eq!(file.set_len(0).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    async fn folders_are_listed_and_removed_when_empty() {
        let folder = folder!("list");
        for name in ["b", "a", "c"] {
            tokio::fs::write(folder.join(name), b"").await.unwrap();
        }
        let mut entries = tokio::fs::read_dir(&folder).await.unwrap();
        let mut names = Vec::new();
        while let Some(entry) = entries.next_entry().await.unwrap() {
            assert!(entry.file_type().await.unwrap().is_file());
            assert_eq!(entry.path(), folder.join(entry.file_name()));
            names.push(entry.file_name());
        }
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(tokio::fs::remove_dir(&folder).await.unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        tokio::fs::remove_dir_all(&folder).await.unwrap();
        assert_eq!(tokio::fs::read_dir(&folder).await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    async fn folders_are_made_one_by_one_or_all() {
        let folder = folder!("make");
        assert_eq!(tokio::fs::create_dir(folder.join("a/b")).await.unwrap_err().kind(), ErrorKind::NotFound);
        tokio::fs::create_dir_all(folder.join("a/b")).await.unwrap();
        tokio::fs::create_dir_all(folder.join("a/b")).await.unwrap();
        assert_eq!(tokio::fs::create_dir(folder.join("a")).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(tokio::fs::metadata(folder.join("a/b")).await.unwrap().is_dir());
    }

    async fn renaming_replaces() {
        let folder = folder!("rename");
        let (a, b) = (folder.join("a"), folder.join("b"));
        tokio::fs::write(&a, b"new").await.unwrap();
        tokio::fs::write(&b, b"old").await.unwrap();
        let mut open = tokio::fs::File::open(&b).await.unwrap();
        tokio::fs::rename(&a, &b).await.unwrap();
        assert_eq!(tokio::fs::read(&b).await.unwrap(), b"new");
        assert!(!tokio::fs::try_exists(&a).await.unwrap());
        let mut old = Vec::new();
        open.read_to_end(&mut old).await.unwrap();
        assert_eq!(old, b"old", "what is open stays");
    }

    async fn renaming_a_file_over_a_folder_fails() {
        let folder = folder!("over");
        tokio::fs::write(folder.join("a"), b"").await.unwrap();
        tokio::fs::create_dir(folder.join("d")).await.unwrap();
        let over = tokio::fs::rename(folder.join("a"), folder.join("d")).await.unwrap_err();
        assert_eq!(over.kind(), ErrorKind::IsADirectory);
        let over = tokio::fs::rename(folder.join("d"), folder.join("a")).await.unwrap_err();
        assert_eq!(over.kind(), ErrorKind::NotADirectory);
    }

    async fn copies_are_copies() {
        let folder = folder!("copy");
        let (a, b) = (folder.join("a"), folder.join("b"));
        tokio::fs::write(&a, b"text").await.unwrap();
        assert_eq!(tokio::fs::copy(&a, &b).await.unwrap(), 4);
        tokio::fs::write(&a, b"other").await.unwrap();
        assert_eq!(tokio::fs::read(&b).await.unwrap(), b"text");
    }
    async fn a_file_has_two_names_and_is_one() {
        let folder = folder!("links");
        let (a, b) = (folder.join("a"), folder.join("b"));
        tokio::fs::write(&a, b"text").await.unwrap();
        tokio::fs::hard_link(&a, &b).await.unwrap();
        tokio::fs::write(&b, b"other").await.unwrap();
        assert_eq!(tokio::fs::read(&a).await.unwrap(), b"other");
        assert_eq!(tokio::fs::metadata(&a).await.unwrap().nlink(), 2);
        assert_eq!(tokio::fs::metadata(&a).await.unwrap().ino(), tokio::fs::metadata(&b).await.unwrap().ino());
        assert_eq!(tokio::fs::hard_link(&a, &b).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(tokio::fs::hard_link(&folder, folder.join("d")).await.unwrap_err().raw_os_error(), Some(1));
        tokio::fs::remove_file(&a).await.unwrap();
        assert_eq!(tokio::fs::read(&b).await.unwrap(), b"other");
    }

    async fn symbolic_links_are_followed_or_not() {
        let folder = folder!("symlinks");
        let link = folder.join("link");
        tokio::fs::symlink("aim", &link).await.unwrap();
        assert_eq!(tokio::fs::read(&link).await.unwrap_err().kind(), ErrorKind::NotFound);
        tokio::fs::write(folder.join("aim"), b"text").await.unwrap();
        assert_eq!(tokio::fs::read(&link).await.unwrap(), b"text");
        assert_eq!(tokio::fs::read_link(&link).await.unwrap(), Path::new("aim"));
        assert_eq!(tokio::fs::read_link(folder.join("aim")).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(tokio::fs::metadata(&link).await.unwrap().is_file());
        let itself = tokio::fs::symlink_metadata(&link).await.unwrap();
        assert!(itself.is_symlink() && !itself.is_file() && itself.file_type().is_symlink());
        assert_eq!(itself.len(), 3);
        assert_eq!(tokio::fs::canonicalize(&link).await.unwrap().file_name(), Some("aim".as_ref()));
        tokio::fs::symlink("loop", folder.join("loop")).await.unwrap();
        assert_eq!(tokio::fs::read(folder.join("loop")).await.unwrap_err().raw_os_error(), Some(40));
        // What is removed with everything below it is the link alone.
        tokio::fs::create_dir(folder.join("d")).await.unwrap();
        tokio::fs::write(folder.join("d/f"), b"").await.unwrap();
        tokio::fs::symlink("d", folder.join("to_d")).await.unwrap();
        tokio::fs::remove_dir_all(folder.join("to_d")).await.unwrap();
        assert!(tokio::fs::try_exists(folder.join("d/f")).await.unwrap());
    }

    async fn permissions_are_kept_and_copied() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder!("permissions");
        let (a, b) = (folder.join("a"), folder.join("b"));
        tokio::fs::OpenOptions::new().write(true).create(true).mode(0o600).open(&a).await.unwrap();
        assert_eq!(tokio::fs::metadata(&a).await.unwrap().permissions().mode(), 0o100600);
        tokio::fs::set_permissions(&a, std::fs::Permissions::from_mode(0o755)).await.unwrap();
        assert_eq!(tokio::fs::copy(&a, &b).await.unwrap(), 0);
        assert_eq!(tokio::fs::metadata(&b).await.unwrap().permissions().mode(), 0o100755);
        let file = tokio::fs::File::open(&b).await.unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o400)).await.unwrap();
        assert!(file.metadata().await.unwrap().permissions().readonly());
        tokio::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join("c/d")).await.unwrap();
        assert_eq!(tokio::fs::metadata(folder.join("c/d")).await.unwrap().permissions().mode(), 0o40700);
        let again = tokio::fs::DirBuilder::new().create(folder.join("c")).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    }
}
