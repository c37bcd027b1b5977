//! Files and directories with names of libc's choice: mkstemp(3) and its kin, whose letters the seed gives in a run.

use super::calls::text;
use super::symbols::{CWD, make};
use crate::interpose::{self, entropy, errno};
use crate::raw;
use libc::c_char;

/// As many names are tried: libc's TMP_MAX.
const NAMES_TRIED: u32 = 238_328;

/// Puts random letters over the six `X` that stand `suffix` bytes before the end, and tries the name, until it is free.
///
/// # Safety
/// `template` is a C string that may be written to.
unsafe fn temporary(template: *mut c_char, suffix: i32, mut attempt: impl FnMut(*const c_char) -> i64) -> i64 {
    const LETTERS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    // SAFETY: the caller's promise.
    unsafe {
        let Ok(len) = text(template as i64).map(<[u8]>::len) else { return -libc::EINVAL as i64 };
        let start = usize::try_from(suffix).ok().and_then(|suffix| len.checked_sub(suffix)?.checked_sub(6));
        let Some(start) = start else { return -libc::EINVAL as i64 };
        let place = std::slice::from_raw_parts_mut(template.add(start).cast::<u8>(), 6);
        if place != b"XXXXXX" {
            return -libc::EINVAL as i64;
        }
        for _ in 0..NAMES_TRIED {
            let mut random = [0u8; 6];
            match interpose::world() {
                Some(world) => entropy::fill(world, random.as_mut_ptr(), random.len()),
                None => raw::call(libc::SYS_getrandom, [random.as_mut_ptr() as i64, 6, 0, 0, 0, 0]),
            };
            place.iter_mut().zip(random).for_each(|(to, byte)| *to = LETTERS[byte as usize % LETTERS.len()]);
            let result = attempt(template);
            if result != -libc::EEXIST as i64 {
                return result;
            }
        }
        -libc::EEXIST as i64
    }
}

macro_rules! makes_temporary {
    ($($name:ident($($arg:ident),*) = $suffix:expr, $flags:expr;)*) => {$(
        /// # Safety
        /// As the function of that name in libc.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name(template: *mut c_char, $($arg: i32),*) -> i32 {
            let flags = ($flags & !libc::O_ACCMODE | libc::O_RDWR | libc::O_CREAT | libc::O_EXCL) as i64;
            // SAFETY: the caller's promise.
            unsafe {
                errno(temporary(template, $suffix, |path| {
                    make(libc::SYS_openat, [CWD, path as i64, flags, 0o600, 0, 0])
                })) as i32
            }
        }
    )*};
}

makes_temporary! {
    mkstemp() = 0, 0;
    mkstemp64() = 0, 0;
    mkostemp(flags) = 0, flags;
    mkostemp64(flags) = 0, flags;
    mkstemps(suffix) = suffix, 0;
    mkstemps64(suffix) = suffix, 0;
    mkostemps(suffix, flags) = suffix, flags;
    mkostemps64(suffix, flags) = suffix, flags;
}

/// # Safety
/// As mkdtemp(3).
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mkdtemp(template: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's promise.
    let made =
        unsafe { errno(temporary(template, 0, |path| make(libc::SYS_mkdirat, [CWD, path as i64, 0o700, 0, 0, 0]))) };
    if made < 0 { std::ptr::null_mut() } else { template }
}
