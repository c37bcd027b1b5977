//! An object store whose objects are files.
//!
//! What an object store promises, files do not: here a put is written beside the object, synced, and renamed over it, and the
//! directories are synced. So an object that was acknowledged survives every power loss, and one that was being put is there whole or
//! not at all. An object and others "below" it can exist both, since files end in `.o` and directories in `.d`.
//!
//! Not here: attributes and tags (`NotImplemented`), versions, signed addresses.

use crate::{SharedVolume, error};
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyMode, CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion,
    UploadPart,
};
use sim_disk::{Errno, InodeId, OpenHow, Stamp, Stat, Taken};
use std::fmt;
use std::io;

/// Below the root of a store: what is being written.
const STAGING: &str = ".staging";

/// An object store on a shared disk.
///
/// Every future is ready at once.
#[derive(Clone, Debug)]
pub struct Store {
    disk: SharedVolume,
    root: String,
}

impl Store {
    /// A store in this directory, which is made if it is not there; its parent must be. What an earlier one left half-written is
    /// removed.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn open(disk: &SharedVolume, root: &str) -> io::Result<Store> {
        let store = Store { disk: disk.clone(), root: root.trim_end_matches('/').to_owned() };
        if !store.root.is_empty() {
            store.make_dir(&store.root)?;
        }
        let staging = format!("{}/{STAGING}", store.root);
        store.make_dir(&staging)?;
        for left in store.entries(&staging)? {
            store.disk.change(|volume, now| volume.remove_file(format!("{staging}/{left}").as_bytes(), now))?;
        }
        Ok(store)
    }

    /// A directory whose name is durable.
    fn make_dir(&self, path: &str) -> io::Result<()> {
        match self.disk.change(|volume, now| volume.create_dir(path.as_bytes(), 0o755, now)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.disk.sync_directory(parent(path))
    }

    /// The names in a directory, in the alphabet's order; none if it is not there.
    fn entries(&self, path: &str) -> io::Result<Vec<String>> {
        let path = if path.is_empty() { "/" } else { path };
        let found = self.disk.look(|volume| match volume.lookup(path.as_bytes(), true) {
            Ok(dir) => volume.read_dir(dir),
            Err(Errno::ENOENT) => Ok(Vec::new()),
            Err(e) => Err(e),
        })?;
        let mut names: Vec<String> = found.into_iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
        names.sort();
        Ok(names)
    }

    /// The directory of the objects with this prefix.
    fn dir_of(&self, prefix: &Path) -> String {
        prefix.parts().fold(self.root.clone(), |dir, part| format!("{dir}/{}.d", part.as_ref()))
    }

    /// The file of an object.
    fn file_of(&self, location: &Path) -> String {
        let mut path = self.dir_of(location);
        if path.len() > self.root.len() {
            path.truncate(path.len() - ".d".len());
        }
        path + ".o"
    }

    /// What is known of an object, and the file.
    fn find(&self, location: &Path) -> Result<(ObjectMeta, InodeId)> {
        let path = self.file_of(location);
        let found = self.disk.look(|volume| {
            let file = volume.lookup(path.as_bytes(), true)?;
            Ok((volume.stat(file), file))
        });
        let (stat, file) = found.map_err(|e| told(location, e))?;
        Ok((meta(location, &stat), file))
    }

    fn bytes(&self, location: &Path, file: InodeId, from: u64, to: u64) -> Result<Bytes> {
        let mut bytes = Vec::new();
        let read = self.disk.look(|volume| volume.read(file, from, (to - from) as usize, &mut bytes));
        read.map_err(|e| told(location, e))?;
        if bytes.len() < (to - from) as usize {
            return Err(told(location, error(Errno::EIO)));
        }
        Ok(bytes.into())
    }

    /// Puts what was staged in the place of an object.
    fn publish(&self, staged: Staged, location: &Path, mode: PutMode) -> Result<PutResult> {
        let taken = match mode {
            PutMode::Overwrite => Taken::Replace,
            PutMode::Create => Taken::Refuse,
            PutMode::Update(expected) => {
                self.check_version(location, &expected)?;
                Taken::Replace
            }
        };
        let path = self.file_of(location);
        let e_tag = staged.finish().and_then(|e_tag| {
            let mut dir = self.root.clone();
            let below: Vec<&str> = path[self.root.len() + 1..].split('/').collect();
            for part in &below[..below.len() - 1] {
                dir = format!("{dir}/{part}");
                self.make_dir(&dir)?;
            }
            self.disk.change(|volume, now| volume.rename(staged.path.as_bytes(), path.as_bytes(), taken, now))?;
            self.disk.sync_directory(parent(&path))?;
            Ok(e_tag)
        });
        let e_tag = Some(e_tag.map_err(|e| told(location, e))?);
        Ok(PutResult { e_tag, version: None, extensions: Default::default() })
    }

    fn check_version(&self, location: &Path, expected: &UpdateVersion) -> Result<()> {
        let found = self.find(location).map(|(meta, _)| meta.e_tag);
        match found {
            Ok(found) if found == expected.e_tag => Ok(()),
            Ok(_) | Err(Error::NotFound { .. }) => {
                let source = format!("it is not as expected ({:?})", expected.e_tag).into();
                Err(Error::Precondition { path: location.to_string(), source })
            }
            Err(e) => Err(e),
        }
    }

    fn stage(&self, location: &Path) -> Result<Staged> {
        let number = self.disk.count();
        let path = format!("{}/{STAGING}/{number}", self.root);
        let how = OpenHow { write: true, create: true, exclusive: true, ..OpenHow::default() };
        let file = self.disk.change(|volume, now| volume.open(path.as_bytes(), how, now));
        let file = file.map_err(|e| told(location, e))?;
        Ok(Staged { disk: self.disk.clone(), path, file, len: 0 })
    }

    /// All objects below a directory.
    fn collect(&self, dir: &str, prefix: &Path, found: &mut Vec<ObjectMeta>) -> Result<()> {
        for name in self.entries(dir).map_err(|e| told(prefix, e))? {
            if let Some(name) = name.strip_suffix(".o") {
                found.push(self.find(&below(prefix, name)?)?.0);
            } else if let Some(part) = name.strip_suffix(".d") {
                self.collect(&format!("{dir}/{name}"), &below(prefix, part)?, found)?;
            }
        }
        Ok(())
    }

    fn remove(&self, location: &Path) -> Result<()> {
        let path = self.file_of(location);
        let removed = self.disk.change(|volume, now| volume.remove_file(path.as_bytes(), now));
        removed.and_then(|()| self.disk.sync_directory(parent(&path))).map_err(|e| told(location, e))
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}

fn below(prefix: &Path, name: &str) -> Result<Path> {
    let joined = if prefix.as_ref().is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Ok(Path::parse(joined)?)
}

fn meta(location: &Path, stat: &Stat) -> ObjectMeta {
    let ns = match stat.times[1] {
        Stamp::At(at) => at.as_nanos() as i64,
        Stamp::Wall(seconds, ns) => seconds * 1_000_000_000 + i64::from(ns),
    };
    let last_modified: DateTime<Utc> = DateTime::from_timestamp_nanos(ns);
    let e_tag = Some(tag(stat));
    ObjectMeta { location: location.clone(), last_modified, size: stat.len, e_tag, version: None }
}

/// Every put makes a new file, so its number says which put it was.
fn tag(stat: &Stat) -> String {
    format!("\"{}\"", stat.ino)
}

/// An error of the disk in the words of object_store.
fn told(location: &Path, e: io::Error) -> Error {
    let path = location.to_string();
    match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::NotFound { path, source: e.into() },
        io::ErrorKind::AlreadyExists => Error::AlreadyExists { path, source: e.into() },
        io::ErrorKind::PermissionDenied => Error::PermissionDenied { path, source: e.into() },
        _ => Error::Generic { store: "sim-disk", source: e.into() },
    }
}

fn refuse_attributes(attributes: &Attributes, tags: &str) -> Result<()> {
    if attributes.is_empty() && tags.is_empty() {
        return Ok(());
    }
    Err(Error::NotImplemented { operation: "attributes and tags".into(), implementer: "sim-disk-adapters".into() })
}

/// An object that is being written. It is removed with this if it was not published.
#[derive(Debug)]
struct Staged {
    disk: SharedVolume,
    path: String,
    file: InodeId,
    len: u64,
}

impl Staged {
    fn add(&mut self, payload: &PutPayload) -> io::Result<()> {
        for mut bytes in payload.iter().map(|bytes| &bytes[..]) {
            while !bytes.is_empty() {
                let written = self.disk.change(|volume, now| volume.write(self.file, self.len, bytes, now))?;
                (self.len, bytes) = (self.len + written as u64, &bytes[written..]);
            }
        }
        Ok(())
    }

    /// Makes it durable; its tag.
    fn finish(&self) -> io::Result<String> {
        self.disk.change(|volume, _| {
            volume.sync(self.file, false);
            Ok(tag(&volume.stat(self.file)))
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Not there any more if it was published; what else fails leaves a file that the next opening removes.
        let _gone = self.disk.change(|volume, now| {
            volume.close(self.file);
            volume.remove_file(self.path.as_bytes(), now)
        });
    }
}

/// The parts of an object, written one behind the other in the order in which they were given.
#[derive(Debug)]
struct Upload {
    store: Store,
    location: Path,
    staged: Option<Staged>,
}

impl Upload {
    fn staged(&mut self) -> Result<&mut Staged> {
        let gone = || Error::Generic { store: "sim-disk", source: error(Errno::EBADF).into() };
        self.staged.as_mut().ok_or_else(gone)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let location = self.location.clone();
        let added = self.staged().and_then(|staged| staged.add(&data).map_err(|e| told(&location, e)));
        Box::pin(async { added })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.staged()?;
        let staged = self.staged.take().expect("it was just looked at");
        self.store.publish(staged, &self.location, PutMode::Overwrite)
    }

    async fn abort(&mut self) -> Result<()> {
        self.staged()?;
        self.staged = None;
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        refuse_attributes(&opts.attributes, opts.tags.encoded())?;
        let mut staged = self.stage(location)?;
        staged.add(&payload).map_err(|e| told(location, e))?;
        self.publish(staged, location, opts.mode)
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        refuse_attributes(&opts.attributes, opts.tags.encoded())?;
        let staged = Some(self.stage(location)?);
        Ok(Box::new(Upload { store: self.clone(), location: location.clone(), staged }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (meta, file) = self.find(location)?;
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => {
                let range = range.as_range(meta.size);
                range.map_err(|e| Error::Generic { store: "sim-disk", source: e.into() })?
            }
            None => 0..meta.size,
        };
        let to = if options.head { range.start } else { range.end };
        let bytes = self.bytes(location, file, range.start, to)?;
        let payload = GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::new(), extensions: Default::default() })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations.map(move |location| location.and_then(|location| store.remove(&location).map(|()| location))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (prefix, mut found) = (prefix.cloned().unwrap_or_default(), Vec::new());
        match self.collect(&self.dir_of(&prefix), &prefix, &mut found) {
            Ok(()) => stream::iter(found.into_iter().map(Ok)).boxed(),
            Err(e) => stream::once(async { Err(e) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let dir = self.dir_of(&prefix);
        let (mut objects, mut common_prefixes) = (Vec::new(), Vec::new());
        for name in self.entries(&dir).map_err(|e| told(&prefix, e))? {
            if let Some(name) = name.strip_suffix(".o") {
                objects.push(self.find(&below(&prefix, name)?)?.0);
            } else if let Some(part) = name.strip_suffix(".d") {
                let (common, mut held) = (below(&prefix, part)?, Vec::new());
                self.collect(&format!("{dir}/{name}"), &common, &mut held)?;
                if !held.is_empty() {
                    common_prefixes.push(common);
                }
            }
        }
        Ok(ListResult { objects, common_prefixes, extensions: Default::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (meta, file) = self.find(from)?;
        let bytes = self.bytes(from, file, 0, meta.size)?;
        let mode = match options.mode {
            CopyMode::Overwrite => PutMode::Overwrite,
            CopyMode::Create => PutMode::Create,
        };
        self.put_opts(to, bytes.into(), mode.into()).await.map(drop)
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim-disk:{}", self.root)
    }
}
