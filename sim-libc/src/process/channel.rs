//! What a child leaves for its parent: a page of shared memory, and a bounded memory file as its standard output.
//!
//! Memory, not a pipe: it needs no descriptor in the child, never blocks, and survives every kind of death.

use crate::child::{Note, NoteKind, Output};
use crate::line::Line;
use crate::raw;
use sim_core::World;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// What is kept of a child's output: this much from its beginning …
pub(super) const HEAD_BYTES: u64 = 2 << 20;
/// … and this much from its end.
const TAIL_BYTES: u64 = 2 << 20;
pub(super) const OUTPUT_BYTES: u64 = HEAD_BYTES + TAIL_BYTES;
/// One slot's share of the shared memory, and with it the longest report. Only pages that were written exist.
pub(super) const PAGE_BYTES: usize = 8 << 20;
const NOTE_BYTES: usize = 1000;

/// The beginning of a slot's shared memory. All zeros is a valid, empty one.
#[repr(C)]
pub(super) struct Page {
    note_kind: AtomicU32,
    note_len: AtomicU32,
    report_len: AtomicU64,
    /// Where the next byte of output goes; only meaningful once `wrapped`.
    output_at: AtomicU64,
    wrapped: AtomicU32,
    /// Bytes of output that later ones replaced.
    lost: AtomicU64,
    note: UnsafeCell<[u8; NOTE_BYTES]>,
}

/// This process's page, once it is a child. Null in a parent and in a process that never forked.
static MINE: AtomicPtr<Page> = AtomicPtr::new(std::ptr::null_mut());

/// Hands bytes to the parent, after those handed over before. False if they do not fit or nobody is there to read them:
/// a process that is no [`Launcher`](super::Launcher)'s child has no parent to report to.
pub fn report(bytes: &[u8]) -> bool {
    // SAFETY: `MINE` is null or points at a slot of `PAGE_BYTES` that is mapped for the life of the process. Its child is
    // the only writer while it lives, and of its threads only the one whose turn it is calls this.
    let Some(page) = (unsafe { MINE.load(Acquire).as_ref() }) else { return false };
    let at = page.report_len.load(Relaxed) as usize;
    if bytes.len() > PAGE_BYTES - size_of::<Page>() - at {
        return false;
    }
    // SAFETY: the range checked above lies behind the header inside the slot, and nobody else writes there.
    unsafe {
        let start = MINE.load(Relaxed).cast::<u8>().add(size_of::<Page>() + at);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
    }
    page.report_len.store((at + bytes.len()) as u64, Release);
    true
}

/// Whether this process is a child of a [`Launcher`](super::Launcher).
pub fn is_child() -> bool {
    captured()
}

/// Whether this process's output is captured by a parent.
pub(crate) fn captured() -> bool {
    !MINE.load(Relaxed).is_null()
}

/// The acting task, or thread, as a line; nothing outside a run. Reads cells only, and what nobody is changing.
pub(crate) fn task_line() -> Line<NOTE_BYTES> {
    let mut line = Line::new();
    let Some(world) = World::current() else { return line };
    let Some(spawn) = world.acting_task() else {
        if world.live_threads() > 1 {
            world.try_thread_name(|name| {
                line.push("thread ").push_number(world.running_thread().0 as u64, 0, 0);
                line.push(" (").push(if name.is_empty() { "unnamed" } else { name }).push(")");
            });
        }
        return line;
    };
    // As `Spawn`'s Display has it, without its allocation.
    let mut parts = spawn.name.split("::{{closure}}");
    parts.by_ref().for_each(|part| {
        line.push(part);
    });
    line.push(" (spawned at ").push(spawn.location.file()).push(":");
    line.push_number(spawn.location.line() as u64, 0, 0).push(":");
    line.push_number(spawn.location.column() as u64, 0, 0).push(")");
    line
}

/// Leaves last words: in the shared page, or on stderr where there is none. The first count. Safe in a signal handler.
pub(crate) fn note(kind: NoteKind, what: &[u8]) {
    let task = task_line();
    // SAFETY: as in `report`.
    let Some(page) = (unsafe { MINE.load(Acquire).as_ref() }) else {
        let mut line = Line::<2048>::new();
        line.push("sim: ").push(match kind {
            NoteKind::Stuck => "stuck: one poll does not end",
            NoteKind::Crashed => "crashed: ",
            NoteKind::Escaped => "escaped: ",
        });
        line.push_bytes(what).push(" in ").push_bytes(match task.bytes() {
            [] => b"no task",
            some => some,
        });
        return raw::write_all(2, line.push("\n").bytes());
    };
    let code = kind as u32 + 1;
    if page.note_kind.compare_exchange(0, code, Release, Relaxed).is_err() {
        return;
    }
    let mut text = Line::<NOTE_BYTES>::new();
    let text = text.push_bytes(&what[..what.len().min(400)]).push_bytes(b"\n").push_bytes(task.bytes()).bytes();
    // SAFETY: whoever changed `note_kind` from 0 is the only one to write the text, once; the parent reads it after the
    // process has ended. `Line` holds at most `NOTE_BYTES`.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), page.note.get().cast::<u8>(), text.len()) };
    page.note_len.store(text.len() as u32, Release);
}

/// Writes to the output of this process, past all buffers and locks of the program.
pub fn print(text: &str) {
    if captured() { write_captured(text.as_bytes()) } else { raw::write_all(1, text.as_bytes()) }
}

/// Writes to the captured output: the beginning is kept, and of the rest the end.
///
/// Descriptors 1 and 2 are one memory file of fixed greatest size. C code that writes past us is held by the file size
/// limit and sees EFBIG; this function starts again behind the head instead.
pub(crate) fn write_captured(mut bytes: &[u8]) {
    // SAFETY: as in `report`.
    let Some(page) = (unsafe { MINE.load(Acquire).as_ref() }) else { return raw::write_all(1, bytes) };
    if bytes.len() as u64 > TAIL_BYTES {
        let skipped = bytes.len() as u64 - TAIL_BYTES;
        page.lost.fetch_add(skipped, Relaxed);
        bytes = &bytes[skipped as usize..];
    }
    while !bytes.is_empty() {
        // SAFETY: lseek takes numbers only.
        let at = unsafe { raw::call(libc::SYS_lseek, [1, 0, libc::SEEK_CUR as i64, 0, 0, 0]) };
        if at < 0 {
            return; // The program closed it.
        }
        let mut at = at as u64;
        if at >= OUTPUT_BYTES {
            at = HEAD_BYTES;
            page.wrapped.store(1, Relaxed);
            // SAFETY: as above.
            unsafe { raw::call(libc::SYS_lseek, [1, at as i64, libc::SEEK_SET as i64, 0, 0, 0]) };
        }
        let now = bytes.len().min((OUTPUT_BYTES - at) as usize);
        if page.wrapped.load(Relaxed) == 1 {
            page.lost.fetch_add(now as u64, Relaxed);
            page.output_at.store(at + now as u64, Relaxed);
        }
        raw::write_all(1, &bytes[..now]);
        bytes = &bytes[now..];
    }
}

impl Page {
    /// Makes `page` this process's own: it is a child from now on.
    pub(super) fn adopt(page: *mut Page) {
        MINE.store(page, Release);
    }

    pub(super) fn reset(&self) {
        self.note_kind.store(0, Relaxed);
        self.note_len.store(0, Relaxed);
        self.report_len.store(0, Relaxed);
        self.output_at.store(0, Relaxed);
        self.wrapped.store(0, Relaxed);
        self.lost.store(0, Release);
    }

    /// Read by the parent when the child has ended.
    pub(super) fn note(&self) -> Option<Note<'_>> {
        let kind = match self.note_kind.load(Acquire) {
            1 => NoteKind::Stuck,
            2 => NoteKind::Crashed,
            3 => NoteKind::Escaped,
            _ => return None,
        };
        let len = (self.note_len.load(Acquire) as usize).min(NOTE_BYTES);
        // SAFETY: the child, the only writer, has ended; `len` lies inside the array.
        let bytes = unsafe { std::slice::from_raw_parts(self.note.get().cast::<u8>(), len) };
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(cut) => std::str::from_utf8(&bytes[..cut.valid_up_to()]).unwrap_or(""),
        };
        let (what, task) = text.split_once('\n').unwrap_or((text, ""));
        Some(Note { kind, what, task })
    }

    pub(super) fn report_len(&self) -> usize {
        (self.report_len.load(Acquire) as usize).min(PAGE_BYTES - size_of::<Page>())
    }

    /// Cuts `file`, the first bytes of the memory file as they stand in it, into beginning and end.
    pub(super) fn output<'a>(&self, file: &'a [u8]) -> Output<'a> {
        if self.wrapped.load(Acquire) == 0 {
            return Output { head: file, lost: self.lost.load(Acquire), tail: [&[], &[]] };
        }
        let head = &file[..file.len().min(HEAD_BYTES as usize)];
        let at = (self.output_at.load(Acquire) as usize).clamp(head.len(), file.len());
        Output { head, lost: self.lost.load(Acquire), tail: [&file[at..], &file[head.len()..at]] }
    }
}
