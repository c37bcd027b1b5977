//! A thread that does nothing but fork, and the parent's view of what it forked.
//!
//! Children go on as that thread, on its stack, so each finds the same memory. Everything the parent needs for the
//! greatest number of jobs exists before the first fork; afterwards an order, a fork and an ending allocate nothing, so a
//! child's heap does not depend on which seeds ran before it or beside it.

use super::channel::{self, OUTPUT_BYTES, PAGE_BYTES, Page};
use super::signals;
use crate::child::{Ended, Exit, Limits, Note, NoteKind, Order};
use crate::{raw, threads, trap, vdso};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LAUNCHER_STACK_BYTES: usize = 8 << 20;
/// The exit status of a child whose body panicked.
const PANIC_STATUS: i32 = 101;
/// How often it is looked at how much memory the children have.
const LOOK: Duration = Duration::from_millis(20);
/// A child ends itself where it has used more memory than it may, which is the same place each time. Where it does not come to that,
/// and uses so many times as much, the parent ends it.
const TOO_LATE: u64 = 2;
/// How much more memory a child may reserve than it may touch.
const RESERVED: u64 = 32;

/// What a child cannot say itself: libc starts threads and processes with all signals blocked, so trapping that ends it.
const UNSPEAKABLE: Note<'static> =
    Note { kind: NoteKind::Escaped, what: "a thread or process started by libc itself", task: "" };

/// What parent and launcher thread tell each other.
enum Mail {
    Starting,
    Ready,
    Nothing,
    Fork(usize, Order),
    Forked(io::Result<i32>),
    Run(Order),
    Ran(i32),
    Quit,
}

struct Post {
    mail: Mutex<Mail>,
    changed: Condvar,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mail: Mail) {
        *self.lock() = mail;
        self.changed.notify_all();
    }

    fn wait<'a>(&'a self, mail: MutexGuard<'a, Mail>) -> MutexGuard<'a, Mail> {
        self.changed.wait(mail).unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the launcher thread knows of each slot.
#[derive(Clone, Copy)]
struct Place {
    page: *mut Page,
    output_fd: i32,
}

struct Slot {
    order: Order,
    pid: i32,
    pidfd: i32,
    output: *const u8,
    began: Instant,
    killed: bool,
    hoarded: bool,
}

/// A thread that forks, and the children it forked.
///
/// ```standalone_crate
/// use sim_libc::process::{self, Exit, Launcher, Limits, Order};
/// use std::time::Duration;
///
/// let body = |order: &Order| {
///     process::report(format!("ran seed {}", order.seed).as_bytes());
///     0
/// };
/// let mut launcher = Launcher::start(64, Limits::default(), Box::new(body))?;
/// launcher.fork(0, Order { seed: 7, ..Order::default() })?;
/// let ended = launcher.wait_any(Duration::from_secs(10))?.expect("it takes no ten seconds");
/// assert_eq!((ended.exit, ended.report), (Exit::Status(0), &b"ran seed 7"[..]));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Launcher {
    post: Arc<Post>,
    thread: Option<JoinHandle<()>>,
    places: Arc<[Place]>,
    slots: Vec<Slot>,
    polled: Vec<libc::pollfd>,
    pages: *mut u8,
    stdin_fd: i32,
    memory_bytes: u64,
    /// When it was last looked at how much memory the children have.
    looked: Instant,
}

/// What the launcher thread needs, moved there.
struct Forker {
    post: Arc<Post>,
    places: Arc<[Place]>,
    stdin_fd: i32,
    limits: Limits,
    body: Box<dyn Fn(&Order) -> i32 + Send>,
}

// SAFETY: the raw pointers in `places` name shared memory that outlives the thread (the Launcher joins it before it unmaps
// anything), and the parent touches a slot's page only before its fork and after its child's end.
unsafe impl Send for Forker {}

impl Launcher {
    /// Starts the thread. At most `max_jobs` children live at a time; give the same number whatever the number of jobs
    /// used, since it shapes the memory that children see.
    ///
    /// # Errors
    /// Those of mmap(2), memfd_create(2), and of starting a thread.
    pub fn start(max_jobs: usize, limits: Limits, body: Box<dyn Fn(&Order) -> i32 + Send>) -> io::Result<Launcher> {
        // std's buffer for stdout is made at first use: now, not in some later child.
        io::stdout().flush()?;
        let pages =
            map(max_jobs.max(1) * PAGE_BYTES, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1)?;
        let mut places = Vec::with_capacity(max_jobs);
        let mut slots = Vec::with_capacity(max_jobs);
        for i in 0..max_jobs {
            // SAFETY: the name is a C string that lives across the call.
            let fd = unsafe { libc::memfd_create(c"sim-output".as_ptr(), libc::MFD_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            let output = map(OUTPUT_BYTES as usize, libc::MAP_SHARED, fd)?;
            // SAFETY: the range was mapped a line above. Children do not need the parent's view.
            unsafe { libc::madvise(output.cast(), OUTPUT_BYTES as usize, libc::MADV_DONTFORK) };
            // SAFETY: the mapping holds `max_jobs` slots of `PAGE_BYTES`, each aligned to a page.
            places.push(Place { page: unsafe { pages.add(i * PAGE_BYTES) }.cast(), output_fd: fd });
            slots.push(Slot {
                order: Order::default(),
                pid: 0,
                pidfd: -1,
                output,
                began: Instant::now(),
                killed: false,
                hoarded: false,
            });
        }
        // SAFETY: the path is a C string.
        let stdin_fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        let places: Arc<[Place]> = places.into();
        let post = Arc::new(Post { mail: Mutex::new(Mail::Starting), changed: Condvar::new() });
        let forker = Forker { post: post.clone(), places: places.clone(), stdin_fd, limits, body };
        let thread = std::thread::Builder::new()
            .name("sim-launcher".into())
            .stack_size(LAUNCHER_STACK_BYTES)
            .spawn(move || forker.work())?;
        // The filter is in place before anybody asks for a child, or for the guarantees.
        let mut mail = post.lock();
        while !matches!(*mail, Mail::Ready) {
            mail = post.wait(mail);
        }
        drop(mail);
        let polled = Vec::with_capacity(max_jobs);
        let (memory_bytes, looked) = (limits.memory_bytes, Instant::now());
        Ok(Launcher { post, thread: Some(thread), places, slots, polled, pages, stdin_fd, memory_bytes, looked })
    }

    /// The number of slots.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// A slot in which no child runs.
    pub fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|s| s.pid == 0)
    }

    /// How many children live.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|s| s.pid != 0).count()
    }

    /// What the child in `slot` is doing, and for how long, in real time.
    pub fn running_in(&self, slot: usize) -> Option<(Order, Duration)> {
        let slot = self.slots.get(slot).filter(|s| s.pid != 0)?;
        Some((slot.order, slot.began.elapsed()))
    }

    /// Forks a child for `order` and returns its process id. The report and output of the slot's last child are gone.
    ///
    /// # Errors
    /// Those of fork(2) and pidfd_open(2).
    ///
    /// # Panics
    /// If a child runs in the slot, or there is no such slot.
    pub fn fork(&mut self, slot: usize, order: Order) -> io::Result<i32> {
        assert!(self.slots[slot].pid == 0, "slot {slot} is taken: wait for its child first");
        let place = self.places[slot];
        // SAFETY: the page is mapped as long as `self`; no child uses it.
        unsafe { &*place.page }.reset();
        // What the parent has not yet printed must not be printed by each child again.
        io::stdout().flush()?;
        // SAFETY: numbers only; the descriptor is ours.
        unsafe {
            if libc::lseek(place.output_fd, 0, libc::SEEK_END) > 0 {
                libc::ftruncate(place.output_fd, 0);
                libc::lseek(place.output_fd, 0, libc::SEEK_SET);
            }
        }
        let began = Instant::now();
        let mut mail = self.post.lock();
        *mail = Mail::Fork(slot, order);
        self.post.changed.notify_all();
        let pid = loop {
            mail = self.post.wait(mail);
            if let Mail::Forked(_) = &*mail {
                let Mail::Forked(result) = std::mem::replace(&mut *mail, Mail::Nothing) else { continue };
                break result?;
            }
        };
        drop(mail);
        // SAFETY: numbers only. The child is not yet waited for, so its id is still its own.
        let pidfd = match unsafe { raw::result(libc::SYS_pidfd_open, [pid as i64, 0, 0, 0, 0, 0]) } {
            Ok(fd) => fd as i32,
            Err(why) => {
                // SAFETY: as above; a null status is allowed.
                unsafe {
                    libc::kill(pid, libc::SIGKILL);
                    libc::waitpid(pid, std::ptr::null_mut(), 0);
                }
                return Err(why);
            }
        };
        let s = &mut self.slots[slot];
        (s.order, s.pid, s.pidfd, s.began) = (order, pid, pidfd, began);
        (s.killed, s.hoarded) = (false, false);
        Ok(pid)
    }

    /// Runs the body on the thread that forks, without forking: it finds the memory that a child would find. For
    /// debuggers and sanitizers, which want one process; nothing is captured and no limit holds.
    pub fn run_here(&mut self, order: Order) -> i32 {
        self.post.put(Mail::Run(order));
        let mut mail = self.post.lock();
        loop {
            if let Mail::Ran(status) = *mail {
                *mail = Mail::Nothing;
                return status;
            }
            mail = self.post.wait(mail);
        }
    }

    /// Ends the child in `slot`; it is still to be waited for. Does nothing if none runs there.
    pub fn kill(&mut self, slot: usize) {
        if let Some(s) = self.slots.get_mut(slot).filter(|s| s.pid != 0) {
            s.killed = true;
            // SAFETY: numbers only; a child that was not waited for still owns its id.
            unsafe { libc::kill(s.pid, libc::SIGKILL) };
        }
    }

    /// Waits until a child has ended, at most `timeout`. `None` if none has, or none runs.
    ///
    /// # Errors
    /// Those of poll(2) and wait4(2).
    pub fn wait_any(&mut self, timeout: Duration) -> io::Result<Option<Ended<'_>>> {
        let began = Instant::now();
        loop {
            if self.looked.elapsed() >= LOOK {
                self.end_hoarders();
            }
            let left = timeout.saturating_sub(began.elapsed());
            let ready = self.wait_for_end(left.min(LOOK))?;
            match ready {
                Some(index) => return self.collect(index).map(Some),
                None if left <= LOOK || self.polled.is_empty() => return Ok(None),
                None => {}
            }
        }
    }

    /// Ends the children that use so much memory that they will not come to see it themselves.
    fn end_hoarders(&mut self) {
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let lives = slot.pid != 0 && !slot.killed;
            if lives && private_bytes(slot.pid).is_some_and(|bytes| bytes > self.memory_bytes.saturating_mul(TOO_LATE))
            {
                self.kill(index);
                (self.slots[index].killed, self.slots[index].hoarded) = (false, true);
            }
        }
        self.looked = Instant::now();
    }

    /// The slot of a child that has ended, at the latest after `timeout`.
    fn wait_for_end(&mut self, timeout: Duration) -> io::Result<Option<usize>> {
        self.polled.clear();
        for s in self.slots.iter().filter(|s| s.pid != 0) {
            self.polled.push(libc::pollfd { fd: s.pidfd, events: libc::POLLIN, revents: 0 });
        }
        if self.polled.is_empty() {
            return Ok(None);
        }
        // Rounded up, so that a timeout below a millisecond does not spin.
        let ms = timeout.as_nanos().div_ceil(1_000_000).min(i32::MAX as u128) as i64;
        let (fds, count) = (self.polled.as_mut_ptr() as i64, self.polled.len() as i64);
        // SAFETY: the kernel reads and writes `count` entries of a vector that lives across the call.
        match unsafe { raw::result(libc::SYS_poll, [fds, count, ms, 0, 0, 0]) } {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(e) => return Err(e),
            Ok(0) => return Ok(None),
            Ok(_) => {}
        }
        let Some(ready) = self.polled.iter().find(|p| p.revents != 0).map(|p| p.fd) else { return Ok(None) };
        Ok(self.slots.iter().position(|s| s.pid != 0 && s.pidfd == ready))
    }

    fn collect(&mut self, index: usize) -> io::Result<Ended<'_>> {
        let slot = &mut self.slots[index];
        let mut status = 0i32;
        // SAFETY: status and usage are locals that live across the call; an all-zero rusage is valid.
        let (waited, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::wait4(slot.pid, &mut status, 0, &mut usage), usage)
        };
        let wall = slot.began.elapsed();
        // SAFETY: the descriptor is ours and not used again.
        unsafe { raw::call(libc::SYS_close, [slot.pidfd as i64, 0, 0, 0, 0, 0]) };
        (slot.pid, slot.pidfd) = (0, -1);
        if waited < 0 {
            return Err(io::Error::last_os_error());
        }
        let exit = if libc::WIFSIGNALED(status) {
            Exit::Signal(libc::WTERMSIG(status))
        } else {
            Exit::Status(libc::WEXITSTATUS(status))
        };
        let place = self.places[index];
        // SAFETY: numbers only.
        let printed = unsafe { libc::lseek(place.output_fd, 0, libc::SEEK_END) }.clamp(0, OUTPUT_BYTES as i64) as usize;
        // SAFETY: page and output are mapped as long as `self`, the child that wrote them has ended, and the next one of
        // this slot needs `&mut self`, which the returned borrow excludes. The file is `printed` bytes long, so its
        // mapping can be read that far.
        let (page, report, file) = unsafe {
            let page = &*place.page;
            let report = std::slice::from_raw_parts(place.page.cast::<u8>().add(size_of::<Page>()), page.report_len());
            (page, report, std::slice::from_raw_parts(slot.output, printed))
        };
        Ok(Ended {
            slot: index,
            order: slot.order,
            exit,
            killed: slot.killed,
            hoarded: slot.hoarded,
            wall,
            peak_bytes: usage.ru_maxrss as u64 * 1024,
            report,
            note: page.note().or((exit == Exit::Signal(libc::SIGSYS)).then_some(UNSPEAKABLE)),
            output: page.output(file),
        })
    }
}

/// The most memory that this process has used so far, bytes: as [`private_bytes`], which is now.
pub fn peak_bytes() -> u64 {
    // SAFETY: all zeros is a value of these numbers, and the kernel fills them in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        raw::call(libc::SYS_getrusage, [libc::RUSAGE_SELF as i64, (&raw mut usage) as i64, 0, 0, 0, 0]);
        usage
    };
    let shared = pages("self").map_or(0, |(_, shared)| shared);
    (usage.ru_maxrss as u64 * 1024).saturating_sub(shared * 4096)
}

/// The memory of a process that it shares with nobody by name, bytes.
fn private_bytes(pid: i32) -> Option<u64> {
    pages(pid).map(|(resident, shared)| resident.saturating_sub(shared) * 4096)
}

/// The resident pages of a process, and those of them that files or shared memory stand behind (proc(5), statm). Nothing is allocated:
/// what children find in their memory must not depend on how often somebody looked.
fn pages(pid: impl std::fmt::Display) -> Option<(u64, u64)> {
    let mut path = [0u8; 32];
    write!(&mut path[..31], "/proc/{pid}/statm").ok()?;
    let mut text = [0u8; 128];
    // SAFETY: the path ends with a zero; the kernel writes no more than the buffer's length; the descriptor is ours.
    let len = unsafe {
        let flags = (libc::O_RDONLY | libc::O_CLOEXEC) as i64;
        let fd = raw::call(libc::SYS_openat, [libc::AT_FDCWD as i64, path.as_ptr() as i64, flags, 0, 0, 0]);
        let len = raw::call(libc::SYS_read, [fd, text.as_mut_ptr() as i64, text.len() as i64, 0, 0, 0]);
        raw::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        len
    };
    let text = std::str::from_utf8(text.get(..usize::try_from(len).ok()?)?).ok()?;
    let mut pages = text.split_ascii_whitespace().skip(1).map(|figure| figure.parse::<u64>());
    Some((pages.next()?.ok()?, pages.next()?.ok()?))
}

impl Drop for Launcher {
    fn drop(&mut self) {
        for i in 0..self.slots.len() {
            self.kill(i);
        }
        for s in self.slots.iter().filter(|s| s.pid != 0) {
            // SAFETY: numbers and null; the ids are those of children not yet waited for, the descriptors ours.
            unsafe {
                libc::waitpid(s.pid, std::ptr::null_mut(), 0);
                libc::close(s.pidfd);
            }
        }
        self.post.put(Mail::Quit);
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic but by a bug of ours, and then there is nothing left to end.
            let _ = thread.join();
        }
        // SAFETY: all were made by `start` with these lengths; the thread that shared them has ended, no child lives, and
        // whatever borrowed from them borrowed `self`.
        unsafe {
            for (slot, place) in self.slots.iter().zip(self.places.iter()) {
                libc::munmap(slot.output.cast_mut().cast(), OUTPUT_BYTES as usize);
                libc::close(place.output_fd);
            }
            libc::munmap(self.pages.cast(), self.slots.len().max(1) * PAGE_BYTES);
            libc::close(self.stdin_fd);
        }
    }
}

impl Forker {
    fn work(self) {
        signals::prepare_thread();
        super::start::limit_descriptors();
        if self.limits.trap {
            // Where it is forbidden the runs go on without, and `guarantees` says so.
            let _ = trap::install();
            vdso::replace();
        }
        threads::arenas::count();
        self.post.put(Mail::Ready);
        let parent = std::process::id() as i32;
        let mut mail = self.post.lock();
        loop {
            match std::mem::replace(&mut *mail, Mail::Nothing) {
                Mail::Fork(slot, order) => {
                    drop(mail);
                    // SAFETY: glibc's fork leaves the child with this one thread and with the allocator's locks free. It
                    // goes on in `child`, which takes no lock that another thread of the parent may hold.
                    let pid = unsafe { libc::fork() };
                    if pid == 0 {
                        self.child(slot, &order, parent);
                    }
                    let result = if pid > 0 { Ok(pid) } else { Err(io::Error::last_os_error()) };
                    mail = self.post.lock();
                    *mail = Mail::Forked(result);
                    self.post.changed.notify_all();
                }
                Mail::Run(order) => {
                    drop(mail);
                    let status = catch_unwind(AssertUnwindSafe(|| (self.body)(&order))).unwrap_or(PANIC_STATUS);
                    // Held from here until the wait below, so that no later mail is missed.
                    mail = self.post.lock();
                    *mail = Mail::Ran(status);
                    self.post.changed.notify_all();
                }
                Mail::Quit => return,
                other => *mail = other,
            }
            mail = self.post.wait(mail);
        }
    }

    fn child(&self, slot: usize, order: &Order, parent: i32) -> ! {
        let place = self.places[slot];
        let limit = |resource, bytes: u64, for_good: bool| {
            let mut limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: the kernel writes and reads the local struct.
            unsafe {
                if !for_good && libc::getrlimit(resource, &mut limit) == 0 {
                    limit.rlim_cur = bytes.min(limit.rlim_max);
                }
                libc::setrlimit(resource, &limit)
            };
        };
        // SAFETY: numbers only. What is closed belongs to the parent: other slots' files, locks of the harness; nothing in
        // this process will use it.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            if libc::getppid() != parent {
                raw::exit(PANIC_STATUS);
            }
            raw::call(libc::SYS_dup3, [self.stdin_fd as i64, 0, 0, 0, 0, 0]);
            raw::call(libc::SYS_dup3, [place.output_fd as i64, 1, 0, 0, 0, 0]);
            raw::call(libc::SYS_dup3, [place.output_fd as i64, 2, 0, 0, 0, 0]);
            raw::call(libc::SYS_close_range, [3, u32::MAX as i64, 0, 0, 0, 0]);
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        }
        limit(libc::RLIMIT_DATA, self.limits.memory_bytes.saturating_mul(RESERVED), true);
        limit(libc::RLIMIT_CORE, 0, true);
        // For what is printed; the memory of mapped files may be larger.
        limit(libc::RLIMIT_FSIZE, OUTPUT_BYTES, false);
        Page::adopt(place.page);
        signals::handle_fatal_signals();
        let status = catch_unwind(AssertUnwindSafe(|| (self.body)(order))).unwrap_or(PANIC_STATUS);
        // A line without an end still sits in std's buffer.
        let _ = io::stdout().flush();
        raw::exit(status)
    }
}

fn map(bytes: usize, flags: i32, fd: i32) -> io::Result<*mut u8> {
    // SAFETY: a fresh mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

const _: () = assert!(channel::HEAD_BYTES < OUTPUT_BYTES && size_of::<Page>() < PAGE_BYTES);
