//! Symbols of libc that answer from the World: clock, sleep, entropy, threads and their locks, processors, process id, host
//! name, output; and those by which a program would leave it, which end the run as escaped.
//!
//! A definition in the program comes before libc's, so std, C code linked in and every crate that calls libc by name ends
//! here. Each function first reads one thread-local: outside a run it goes on to the system, by the same system call where
//! that is all libc does, else by libc's own function.
//!
//! Inside a run they read cells and borrow nothing that a caller may hold. They never panic.
//!
//! What is deliberately absent: sockets (`crate::sockets`), descriptors (`crate::descriptors`) and files (`crate::files`),
//! whose symbols stand with what answers them. Calls that libc makes to itself (`fopen` calling `open`, `printf` calling
//! `write`) never pass by a symbol; [`crate::trap`] sees them.

pub(crate) mod entropy;
pub(crate) mod escapes;
mod lock;
pub(crate) mod machine;
mod output;
pub(crate) mod real;
mod signals;
pub(crate) mod syscall;
mod thread;
pub(crate) mod time;

use crate::files::{dirs, maps, streams, symbols as files, temporary};
use crate::{process, threads, trap};
use sim_core::{Verdict, World};
use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    /// Const and without destructor: reading it is one load, also in a thread that is ending or in a signal handler.
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, libc's symbols answer from the World that this thread runs. Without one they pass through.
#[derive(Debug)]
#[must_use = "interposition ends when this is dropped"]
pub struct Interposed {
    before: bool,
    stays_on_thread: PhantomData<*const ()>,
}

/// Lets libc's symbols answer from this thread's World.
///
/// ```
/// use sim_core::{Choices, Settings, Spawn, World};
/// use std::time::{Duration, Instant};
///
/// let entered = World::enter(Settings::default(), Choices::seeded(7))?;
/// let world = entered.world();
/// let node = world.node("kv0");
/// let _on = sim_libc::interpose::enable();
/// let slept = world.block_on(
///     node,
///     async {
///         let began = Instant::now();
///         std::thread::sleep(Duration::from_secs(3600));
///         began.elapsed()
///     },
///     Spawn::named("sleeper"),
/// );
/// # #[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
/// assert_eq!(slept, Ok(Duration::from_secs(3600)));
/// # Ok::<(), sim_core::Nested>(())
/// ```
pub fn enable() -> Interposed {
    // A symbol in an object file of an archive is linked only if somebody names it: here all are named.
    std::hint::black_box((&SYMBOLS, crate::descriptors::symbols::SYMBOLS, crate::sockets::names::SYMBOLS));
    let before = ON.replace(true);
    if !before {
        threads::enter();
        trap::enter();
    }
    Interposed { before, stays_on_thread: PhantomData }
}

impl Drop for Interposed {
    fn drop(&mut self) {
        ON.set(self.before);
        if !self.before {
            trap::leave();
        }
    }
}

/// Runs `f` as if outside the run: for the simulator's own files and clocks.
pub fn pass_through<R>(f: impl FnOnce() -> R) -> R {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            ON.set(self.0);
        }
    }
    let _back = Back(ON.replace(false));
    f()
}

/// The World to answer from, inside a run.
#[inline]
pub(crate) fn world() -> Option<&'static World> {
    if ON.get() { World::current() } else { None }
}

/// Whether symbols answer on this thread from the World it runs, if it runs one.
#[inline]
pub(crate) fn is_on() -> bool {
    ON.get()
}

/// A thread of the run begins.
pub(crate) fn begin_thread() {
    ON.set(true);
}

/// A thread of the run has ended: what else it does is libc's.
pub(crate) fn end_thread() {
    ON.set(false);
}

/// The id of the acting node's process.
pub(crate) fn pid(world: &World) -> i64 {
    machine::pid(world)
}

/// Ends the run: the program made `call`.
pub(crate) fn escape(world: &World, call: String) {
    let place = String::from_utf8_lossy(process::task_line().bytes()).into_owned();
    world.stop_with(Verdict::Escaped { call, place });
}

/// The kernel's convention to libc's: a result, or -1 with errno.
pub(crate) fn errno(result: i64) -> i64 {
    if !(-4095..0).contains(&result) {
        return result;
    }
    // SAFETY: the address of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = -result as i32 };
    -1
}

/// Addresses, in a form that may stand in a static.
pub(crate) struct Symbol(#[allow(dead_code, reason = "it is there to be linked")] *const ());
// SAFETY: nobody reads through them.
unsafe impl Sync for Symbol {}

impl Symbol {
    pub(crate) const fn new(address: *const ()) -> Symbol {
        Symbol(address)
    }
}

macro_rules! symbols {
    ($($of:ident: $($name:ident)*;)*) => {
        static SYMBOLS: &[Symbol] = &[$($(Symbol($of::$name as *const ()),)*)*];
    };
}

symbols! {
    entropy: getrandom getentropy arc4random arc4random_buf arc4random_uniform;
    time: clock_gettime gettimeofday time timespec_get nanosleep clock_nanosleep usleep sleep;
    machine: sched_getaffinity sched_setaffinity pthread_getaffinity_np pthread_setaffinity_np sched_getcpu getcpu sysconf get_nprocs get_nprocs_conf getpid getppid gettid gethostname uname sysinfo
        getrusage times clock getloadavg get_phys_pages get_avphys_pages;
    output: write writev;
    escapes: fork _Fork vfork clone daemon forkpty execve posix_spawn posix_spawnp system popen;
    signals: kill raise;
    files: open open64 openat openat64 creat creat64 __open_2 __open64_2 __openat_2 __openat64_2 lseek lseek64 fsync
        fdatasync syncfs sync_file_range readahead ftruncate ftruncate64 truncate truncate64 fallocate fallocate64
        posix_fallocate posix_fallocate64 posix_fadvise posix_fadvise64 sync lockf lockf64 copy_file_range sendfile
        sendfile64 stat stat64 lstat lstat64 fstat fstat64 fstatat fstatat64 __xstat __xstat64 __lxstat __lxstat64
        __fxstat __fxstat64 __fxstatat __fxstatat64 statx statfs statfs64 fstatfs fstatfs64 statvfs fstatvfs
        statvfs64 fstatvfs64 access euidaccess eaccess faccessat rename renameat renameat2 unlink unlinkat remove
        rmdir mkdir mkdirat mknod mknodat mkfifo mkfifoat link linkat symlink symlinkat readlink readlinkat chmod
        fchmod fchmodat chown lchown fchown fchownat utimensat futimens utimes lutimes futimes futimesat utime chdir
        fchdir chroot getcwd get_current_dir_name umask flock getdents64 memfd_create inotify_init inotify_init1
        getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr
        lremovexattr fremovexattr realpath __realpath_chk canonicalize_file_name;
    temporary: mkstemp mkstemp64 mkostemp mkostemp64 mkstemps mkstemps64 mkostemps mkostemps64 mkdtemp;
    dirs: opendir fdopendir readdir readdir64 readdir_r readdir64_r closedir dirfd rewinddir seekdir telldir scandir
        scandir64 ftw ftw64 nftw nftw64 glob glob64;
    maps: mmap mmap64 munmap mremap mprotect msync madvise;
    streams: fopen fopen64 fdopen tmpfile tmpfile64 freopen freopen64 fileno fileno_unlocked;
    thread: pthread_create pthread_join pthread_tryjoin_np pthread_timedjoin_np pthread_clockjoin_np pthread_detach
        pthread_setname_np pthread_kill pthread_sigqueue pthread_cancel sched_yield pthread_yield thrd_create thrd_join
        thrd_detach thrd_yield thrd_sleep aio_read aio_read64 aio_write aio_write64 aio_fsync aio_fsync64 lio_listio
        lio_listio64 getaddrinfo_a mq_notify timer_create setitimer alarm;
    lock: pthread_mutex_lock pthread_mutex_timedlock pthread_mutex_clocklock pthread_mutex_unlock pthread_cond_wait
        pthread_cond_timedwait pthread_cond_clockwait pthread_cond_signal pthread_cond_broadcast pthread_rwlock_rdlock
        pthread_rwlock_timedrdlock pthread_rwlock_clockrdlock pthread_rwlock_wrlock pthread_rwlock_timedwrlock
        pthread_rwlock_clockwrlock pthread_rwlock_unlock sem_wait sem_timedwait sem_clockwait sem_post
        pthread_barrier_wait pthread_spin_lock pthread_once mtx_lock mtx_timedlock mtx_unlock cnd_wait cnd_timedwait
        cnd_signal cnd_broadcast call_once;
    syscall: syscall;
}
