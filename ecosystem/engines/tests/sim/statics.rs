//! The static memory of a crate, put back to what it was.
//!
//! A process that starts again finds its static memory as new; the machines of a test share that of one process. That does
//! not matter to most programs. sled keeps there how many threads wait for work: those of a machine that died never come.

use object::{Object, ObjectSymbol, SymbolKind};
use std::cell::OnceCell;

thread_local! {
    static SLED: OnceCell<Statics> = const { OnceCell::new() };
}

/// Before each start of a machine: the first time sled has not run yet.
pub fn forget_sled() {
    // SAFETY: the threads that used sled since then are dead, or their machine is.
    SLED.with(|statics| unsafe { statics.get_or_init(|| Statics::of("sled")).put_back() });
}

/// A symbol of which both the file and the program know where it is.
#[unsafe(no_mangle)]
static STATICS_BEGIN_HERE: u8 = 1;

/// What was in the static memory of a crate.
struct Statics(Vec<(*mut u8, Vec<u8>)>);

impl Statics {
    /// What is there now.
    fn of(name: &str) -> Statics {
        let program = std::fs::read(std::env::current_exe().expect("it has a name")).expect("it can be read");
        let program = object::File::parse(&*program).expect("it runs");
        let anchor = program.symbol_by_name("STATICS_BEGIN_HERE").expect("it has symbols").address();
        let base = (&raw const STATICS_BEGIN_HERE as u64).wrapping_sub(anchor);
        // As it stands in mangled names.
        let name = format!("{}{name}", name.len());
        let is_wanted = |symbol: &object::Symbol<'_, '_>| {
            symbol.kind() == SymbolKind::Data && symbol.size() > 0 && symbol.name().unwrap_or_default().contains(&name)
        };
        let kept = program.symbols().filter(is_wanted).map(|symbol| {
            let at = base.wrapping_add(symbol.address()) as *mut u8;
            // SAFETY: the symbol's own place and size.
            (at, unsafe { std::slice::from_raw_parts(at, symbol.size() as usize) }.to_vec())
        });
        Statics(kept.collect())
    }

    /// Puts it back.
    ///
    /// # Safety
    /// No thread that knows of what is there now runs ever again.
    unsafe fn put_back(&self) {
        for (at, bytes) in &self.0 {
            // SAFETY: as above; what was not changed may lie in memory that cannot be.
            unsafe {
                if std::slice::from_raw_parts(*at, bytes.len()) != bytes {
                    at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                }
            }
        }
    }
}
