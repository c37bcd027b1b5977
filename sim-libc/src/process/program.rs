//! Before `main`: a program that is to be simulated as a whole is handed over when libc is about to start it.
//!
//! The dynamic loader's entry calls `__libc_start_main` with the address of `main`. Ours passes libc another one, which asks
//! whoever said [`take_over`] what to do, when every constructor has run. Nobody said so: `main` runs as ever.
//!
//! Absent where libc is linked statically: there the entry finds libc's own function, and [`can_take_over`] is false.

use crate::interpose::real::real;
use std::ffi::{OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *mut c_char) -> c_int;

/// The real `main`, and who takes over.
static MAIN: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static TAKER: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// The program that this process was started for, not begun yet. Its `main` may be called in this process or a forked one.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    envp: *mut *mut c_char,
}

// SAFETY: the pointers name the process's own arguments and environment, which live as long as it does and which libc
// itself lets every thread read.
unsafe impl Send for Program {}

impl Program {
    /// Runs `main` on this thread and returns its status.
    pub fn run(&self) -> i32 {
        // SAFETY: the function and the arguments are those that the loader gave libc for exactly this call.
        unsafe { (self.main)(self.argc, self.argv, self.envp) }
    }

    /// Runs `main` and then ends the process as libc would: functions registered with atexit(3) run first.
    pub fn run_to_exit(&self) -> ! {
        let status = self.run();
        // SAFETY: exit takes a number.
        unsafe { libc::exit(status) }
    }

    /// The arguments, the program's name first.
    pub fn args(&self) -> Vec<OsString> {
        let arg = |i: usize| {
            // SAFETY: `argv` holds `argc` C strings.
            let text = unsafe { std::ffi::CStr::from_ptr(*self.argv.add(i)) };
            OsString::from_vec(text.to_bytes().to_vec())
        };
        (0..self.argc as usize).map(arg).collect()
    }
}

/// Lets `taker` run in place of `main`; what it returns is the exit status. To be called before `main`, by a constructor.
pub fn take_over(taker: fn(Program) -> i32) {
    TAKER.store(taker as *mut (), Relaxed);
}

/// Whether this process's `main` can be taken over.
pub fn can_take_over() -> bool {
    !MAIN.load(Relaxed).is_null()
}

/// Calls `last` with the exit status when the process ends by `exit` or by returning from `main`, after every function that
/// is registered later.
pub fn at_exit(last: fn(i32)) {
    unsafe extern "C" {
        fn on_exit(function: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
    }
    extern "C" fn call(status: c_int, last: *mut c_void) {
        // SAFETY: the pointer is the function that `at_exit` was given.
        let last: fn(i32) = unsafe { std::mem::transmute(last) };
        if std::panic::catch_unwind(|| last(status)).is_err() {
            crate::raw::exit(status);
        }
    }
    // SAFETY: on_exit(3) keeps the two pointers; the function is valid for the life of the process.
    unsafe { on_exit(call, last as *mut c_void) };
}

/// Ends the process at once: nothing that is registered runs.
pub fn exit_now(status: i32) -> ! {
    crate::raw::exit(status)
}

unsafe extern "C" fn begin(argc: c_int, argv: *mut *mut c_char, envp: *mut *mut c_char) -> c_int {
    // SAFETY: `MAIN` was stored before libc was told of this function.
    let main: Main = unsafe { std::mem::transmute(MAIN.load(Relaxed)) };
    let taker = TAKER.load(Relaxed);
    if taker.is_null() {
        // SAFETY: libc's own call.
        return unsafe { main(argc, argv, envp) };
    }
    // SAFETY: only `take_over` stores there.
    let taker: fn(Program) -> i32 = unsafe { std::mem::transmute(taker) };
    // A panic may not leave a function that C calls.
    std::panic::catch_unwind(|| taker(Program { main, argc, argv, envp })).unwrap_or(101)
}

/// # Safety
/// As the entry of the C runtime calls it.
#[cfg(not(target_feature = "crt-static"))]
#[unsafe(no_mangle)]
unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: *const c_void,
    fini: *const c_void,
    rtld_fini: *const c_void,
    stack_end: *mut c_void,
) -> c_int {
    MAIN.store(main as *mut (), Relaxed);
    real!(
        __libc_start_main(begin, argc, argv, init, fini, rtld_fini, stack_end): fn(
            Main,
            c_int,
            *mut *mut c_char,
            *const c_void,
            *const c_void,
            *const c_void,
            *mut c_void
        ) -> c_int,
        else crate::raw::exit(127)
    )
}
