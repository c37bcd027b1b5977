//! libc's own functions, for what a system call alone does not do.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

/// A function of libc behind ours, looked up at its first use.
pub(crate) struct Real {
    name: &'static CStr,
    found: AtomicPtr<()>,
}

impl Real {
    pub(crate) const fn new(name: &'static CStr) -> Real {
        Real { name, found: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Its address, or null if there is none, as in a statically linked program.
    pub(crate) fn address(&self) -> *mut () {
        let known = self.found.load(Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string; RTLD_NEXT is valid in the object that holds this call.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) }.cast();
        self.found.store(found, Relaxed);
        found
    }
}

/// Calls libc's function of this name; without one, fails with ENOSYS and `$without`.
macro_rules! real {
    ($name:ident($($arg:expr),*): fn($($type:ty),*) -> $result:ty, else $without:expr) => {{
        static REAL: $crate::interpose::real::Real = $crate::interpose::real::Real::new(
            // SAFETY: the one zero byte is the one that `concat` ends it with.
            unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) },
        );
        let address = REAL.address();
        if address.is_null() {
            crate::interpose::errno(-libc::ENOSYS as i64);
            $without
        } else {
            // SAFETY: the address is that of libc's function of this name, whose C signature is the one given; what the
            // arguments must satisfy is the promise of our own caller, who called it by that name.
            unsafe {
                let function: unsafe extern "C" fn($($type),*) -> $result = std::mem::transmute(address);
                function($($arg),*)
            }
        }
    }};
}
pub(crate) use real;
