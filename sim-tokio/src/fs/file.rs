//! An open file, with tokio's buffering: one operation in flight, and a write returns before it has reached the file.

use super::{Metadata, OpenOptions, task_failed};
use real::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};
use real::sync::Mutex;
use sim_core::{JoinHandle, Spawn, World};
use sim_disk::{Change, Errno, Handle, Op, OpFuture, Reply, submit};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, SeekFrom};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// tokio's `DEFAULT_MAX_BUF_SIZE` (tokio/src/io/blocking.rs).
const DEFAULT_MAX_BUF_SIZE: usize = 2 * 1024 * 1024;

/// An open file or directory of the node.
///
/// As with tokio, a write is complete when [`flush`](real::io::AsyncWriteExt::flush) is, its error shows at the next call,
/// and dropping the file waits for nothing: a write under way goes on. Only [`sync_all`](File::sync_all) and
/// [`sync_data`](File::sync_data) make anything durable.
pub struct File {
    handle: Arc<Handle>,
    inner: Mutex<Inner>,
    max_buf_size: usize,
}

struct Inner {
    state: State,
    /// The error of a write that something else than a write waited for; it is the next call's.
    last_write_err: Option<io::ErrorKind>,
    pos: u64,
}

enum State {
    /// With what was read and not yet handed out.
    Idle(Buf),
    Busy(InFlight),
}

#[derive(Default)]
struct Buf {
    bytes: Vec<u8>,
    pos: usize,
}

/// The one operation in flight.
enum InFlight {
    Read(OpFuture),
    /// With the number of bytes to be written.
    Write(OpFuture, u64),
    Seek(OpFuture),
    /// Several system calls, of which the first puts the cursor back to where the program believes it is.
    Task(JoinHandle<Outcome>),
}

enum Outcome {
    Read(io::Result<Vec<u8>>),
    Write(io::Result<()>),
    Seek(io::Result<u64>),
}

impl File {
    pub(super) fn new(handle: Handle) -> File {
        let inner = Inner { state: State::Idle(Buf::default()), last_write_err: None, pos: 0 };
        File { handle: Arc::new(handle), inner: Mutex::new(inner), max_buf_size: DEFAULT_MAX_BUF_SIZE }
    }

    /// Opens a file for reading; a directory too, to sync it.
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        Self::options().read(true).open(path).await
    }

    /// Opens a file for writing, emptied, created if it is not there.
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        Self::options().write(true).create(true).truncate(true).open(path).await
    }

    /// Creates a file, for reading and writing; `AlreadyExists` if it is there.
    pub async fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        Self::options().read(true).write(true).create_new(true).open(path).await
    }

    /// How to open a file.
    #[must_use]
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// fsync(2): contents and size are durable when this returns. Whether the file's name is depends on the disk's
    /// [`Profile`](sim_disk::Profile); sync the directory to be sure.
    ///
    /// The error of an earlier write is not reported here but by the next write or flush, as tokio does.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.inner.lock().await.complete_inflight().await;
        submit(Op::Sync(self.handle.id())).await.map(drop)
    }

    /// fdatasync(2): contents and size are durable when this returns.
    pub async fn sync_data(&self) -> io::Result<()> {
        self.inner.lock().await.complete_inflight().await;
        submit(Op::SyncData(self.handle.id())).await.map(drop)
    }

    /// Cuts the file, or lets it grow by zeros. The cursor stays.
    pub async fn set_len(&self, size: u64) -> io::Result<()> {
        let mut inner = self.inner.lock().await;
        inner.complete_inflight().await;
        let op = Op::SetLen(self.handle.id(), size);
        let back = inner.take_unread();
        inner.state = State::Busy(match back {
            None => InFlight::Seek(submit(op)),
            Some(back) => self.after_seek(back, op, |r| Outcome::Seek(r.map(|_| 0))),
        });
        match poll_fn(|cx| inner.poll_outcome(cx)).await {
            Outcome::Seek(result) => result.map(|pos| inner.pos = pos),
            _ => unreachable!("only set_len was in flight"),
        }
    }

    /// What is known of the file.
    pub async fn metadata(&self) -> io::Result<Metadata> {
        submit(Op::StatFile(self.handle.id())).await.map(Metadata::of)
    }

    /// Sets who may read, write and execute the file.
    #[cfg(unix)]
    pub async fn set_permissions(&self, perm: std::fs::Permissions) -> io::Result<()> {
        self.set_mode(std::os::unix::fs::PermissionsExt::mode(&perm)).await
    }

    pub(super) async fn set_mode(&self, mode: u32) -> io::Result<()> {
        submit(Op::ChangeFile(self.handle.id(), Change::Mode(mode & 0o7777))).await.map(drop)
    }

    /// Another handle of the same open file: the cursor is shared.
    pub async fn try_clone(&self) -> io::Result<File> {
        self.inner.lock().await.complete_inflight().await;
        let mut file = File::new(self.handle.try_clone()?);
        file.max_buf_size = self.max_buf_size;
        Ok(file)
    }

    /// Sets how many bytes one operation moves at most; 2 MiB unless set.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn set_max_buf_size(&mut self, max_buf_size: usize) {
        assert!(max_buf_size > 0, "`max_buf_size` must be greater than 0");
        self.max_buf_size = max_buf_size;
    }

    /// How many bytes one operation moves at most.
    pub fn max_buf_size(&self) -> usize {
        self.max_buf_size
    }

    /// One read(2), past all buffers.
    pub(super) async fn read_some(&self, len: usize) -> io::Result<Vec<u8>> {
        submit(Op::Read(self.handle.id(), len)).await.map(bytes_read)
    }

    /// As std's `write_all`, past all buffers.
    pub(super) async fn write_whole(&self, bytes: Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let wanted = bytes.len() as u64;
        submit(Op::Write(self.handle.id(), bytes)).await.and_then(|reply| written(reply, wanted))
    }

    /// Puts the cursor back and then does `op`, whoever waits: the two belong together.
    fn after_seek(
        &self,
        seek: SeekFrom,
        op: Op,
        outcome: impl FnOnce(io::Result<Reply>) -> Outcome + 'static,
    ) -> InFlight {
        let handle = self.handle.clone();
        let work = async move {
            let result = match submit(Op::Seek(handle.id(), seek)).await {
                Ok(_) => submit(op).await,
                Err(e) => Err(e),
            };
            outcome(result)
        };
        let Some(world) = World::current() else { panic!("a file is used outside the run that opened it") };
        InFlight::Task(world.spawn(work, Spawn::named("fs::File")))
    }

    fn write(&mut self, bytes: Vec<u8>) {
        let wanted = bytes.len() as u64;
        let op = Op::Write(self.handle.id(), bytes);
        let in_flight = match self.inner.get_mut().take_unread() {
            None => InFlight::Write(submit(op), wanted),
            Some(back) => self.after_seek(back, op, move |r| Outcome::Write(r.and_then(|r| written(r, wanted)))),
        };
        self.inner.get_mut().state = State::Busy(in_flight);
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(usize) -> Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        let inner = self.inner.get_mut();
        if let Some(kind) = inner.last_write_err.take() {
            return Poll::Ready(Err(kind.into()));
        }
        while let State::Busy(_) = inner.state {
            if let Outcome::Write(result) = ready!(inner.poll_outcome(cx)) {
                result?;
            }
        }
        let bytes = take(self.max_buf_size);
        let n = bytes.len();
        self.write(bytes);
        Poll::Ready(Ok(n))
    }
}

fn bytes_read(reply: Reply) -> Vec<u8> {
    match reply {
        Reply::Bytes(bytes) => bytes,
        other => unreachable!("read answers with bytes, not with {other:?}"),
    }
}

/// What std's `write_all` makes of an answer: a write is cut short for good only where the disk is full, and a second try would
/// say so.
fn written(reply: Reply, wanted: u64) -> io::Result<()> {
    match reply {
        Reply::Count(n) if n == wanted => Ok(()),
        Reply::Count(_) => Err(Errno::ENOSPC.into()),
        other => unreachable!("write answers with a count, not with {other:?}"),
    }
}

impl Inner {
    /// Waits for what is in flight, if anything, and makes the file idle.
    fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let State::Busy(in_flight) = &mut self.state else { unreachable!("something is in flight") };
        let outcome = match in_flight {
            InFlight::Read(op) => Outcome::Read(ready!(Pin::new(op).poll(cx)).map(bytes_read)),
            InFlight::Write(op, wanted) => {
                let wanted = *wanted;
                Outcome::Write(ready!(Pin::new(op).poll(cx)).and_then(|reply| written(reply, wanted)))
            }
            InFlight::Seek(op) => Outcome::Seek(ready!(Pin::new(op).poll(cx)).map(|reply| match reply {
                Reply::Count(pos) => pos,
                // set_len: tokio too hands its result on as a seek to 0.
                _ => 0,
            })),
            InFlight::Task(task) => match ready!(Pin::new(task).poll(cx)) {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Seek(Err(task_failed())),
            },
        };
        self.state = State::Idle(Buf::default());
        Poll::Ready(outcome)
    }

    /// Drops what was read and not handed out; returns the way back to where the program believes the cursor is.
    fn take_unread(&mut self) -> Option<SeekFrom> {
        let State::Idle(buf) = &mut self.state else { unreachable!("nothing is in flight") };
        let unread = (buf.bytes.len() - buf.pos) as i64;
        *buf = Buf::default();
        (unread > 0).then_some(SeekFrom::Current(-unread))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.last_write_err.take() {
            return Poll::Ready(Err(kind.into()));
        }
        if let State::Idle(_) = self.state {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match ready!(self.poll_outcome(cx)) {
            Outcome::Write(result) => result,
            Outcome::Read(_) | Outcome::Seek(_) => Ok(()),
        })
    }

    async fn complete_inflight(&mut self) {
        if let Err(e) = poll_fn(|cx| self.poll_flush(cx)).await {
            self.last_write_err = Some(e.kind());
        }
    }
}

impl AsyncRead for File {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, dst: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let inner = me.inner.get_mut();
        loop {
            if let State::Idle(buf) = &mut inner.state {
                let unread = &buf.bytes[buf.pos..];
                if !unread.is_empty() || dst.remaining() == 0 {
                    let n = unread.len().min(dst.remaining());
                    dst.put_slice(&unread[..n]);
                    buf.pos += n;
                    return Poll::Ready(Ok(()));
                }
                let len = dst.remaining().min(me.max_buf_size);
                inner.state = State::Busy(InFlight::Read(submit(Op::Read(me.handle.id(), len))));
            }
            match ready!(inner.poll_outcome(cx)) {
                Outcome::Read(result) => {
                    let bytes = result?;
                    let n = bytes.len().min(dst.remaining());
                    dst.put_slice(&bytes[..n]);
                    inner.state = State::Idle(Buf { bytes, pos: n });
                    return Poll::Ready(Ok(()));
                }
                Outcome::Write(Err(e)) => inner.last_write_err = Some(e.kind()),
                Outcome::Write(Ok(())) => {}
                Outcome::Seek(Ok(pos)) => inner.pos = pos,
                Outcome::Seek(Err(_)) => {}
            }
        }
    }
}

impl AsyncSeek for File {
    fn start_seek(self: Pin<&mut Self>, mut to: SeekFrom) -> io::Result<()> {
        let me = self.get_mut();
        let inner = me.inner.get_mut();
        if let State::Busy(_) = inner.state {
            return Err(io::Error::other("other file operation is pending, call poll_complete before start_seek"));
        }
        let mut first = None;
        if let (Some(SeekFrom::Current(back)), SeekFrom::Current(by)) = (inner.take_unread(), &mut to) {
            match by.checked_add(back) {
                Some(sum) => *by = sum,
                None => first = Some(SeekFrom::Current(back)),
            }
        }
        let op = Op::Seek(me.handle.id(), to);
        let in_flight = match first {
            None => InFlight::Seek(submit(op)),
            Some(first) => me.after_seek(first, op, |result| {
                Outcome::Seek(result.map(|reply| match reply {
                    Reply::Count(pos) => pos,
                    other => unreachable!("lseek answers with a position, not with {other:?}"),
                }))
            }),
        };
        me.inner.get_mut().state = State::Busy(in_flight);
        Ok(())
    }

    fn poll_complete(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        let inner = self.inner.get_mut();
        while let State::Busy(_) = inner.state {
            match ready!(inner.poll_outcome(cx)) {
                Outcome::Read(_) | Outcome::Write(Ok(())) => {}
                Outcome::Write(Err(e)) => inner.last_write_err = Some(e.kind()),
                Outcome::Seek(result) => {
                    if let Ok(pos) = result {
                        inner.pos = pos;
                    }
                    return Poll::Ready(result);
                }
            }
        }
        Poll::Ready(Ok(inner.pos))
    }
}

impl AsyncWrite for File {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, src: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |max| src[..src.len().min(max)].to_vec())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_with(cx, |max| {
            let mut bytes = Vec::new();
            for buf in bufs {
                bytes.extend_from_slice(&buf[..buf.len().min(max - bytes.len())]);
            }
            bytes
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.get_mut().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tokio::fs::File").field("handle", &self.handle).finish()
    }
}
