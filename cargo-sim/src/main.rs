//! `cargo sim`: sweep, replay, audit and bisect simulated tests. All of it is in [`app`].

#[cfg(unix)]
mod app;
#[cfg(unix)]
mod conformance;
#[cfg(unix)]
mod dropin;
#[cfg(unix)]
mod metadata;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    app::main()
}

/// It listens to test binaries on a Unix socket, and what it asks of them needs hermetic processes.
#[cfg(not(unix))]
fn main() -> std::process::ExitCode {
    eprintln!("cargo sim needs a Unix system; here `cargo test --features sim` sweeps the same tests, in one process");
    std::process::ExitCode::from(2)
}
