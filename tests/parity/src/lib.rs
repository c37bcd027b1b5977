//! The same test bodies on real tokio and in the simulator: what a program can see must not differ.
//!
//! A body names `tokio`, and is compiled twice, once for each. It may assert what tokio documents or does on Linux, never
//! an order that tokio leaves open.

pub use {real, simulated};

/// Makes two tests of each body: `on_tokio` and `on_sim`. With `paused`, the clock is virtual on both.
#[macro_export]
macro_rules! both {
    (paused: $($bodies:tt)*) => { $crate::both! { @ true { $($bodies)* } } };
    (running: $($bodies:tt)*) => { $crate::both! { @ false { $($bodies)* } } };
    (@ $paused:literal { $($bodies:tt)* }) => {
        mod on_tokio {
            use $crate::real as tokio;
            $crate::both! { @@ $paused { $($bodies)* } }
        }
        mod on_sim {
            use $crate::simulated as tokio;
            $crate::both! { @@ $paused { $($bodies)* } }
        }
    };
    (@@ $paused:literal { $($(#[$attr:meta])* async fn $name:ident() $body:block)* }) => {
        #[allow(unused_imports)]
        use super::*;
        #[allow(dead_code)]
        fn runtime() -> tokio::runtime::Runtime {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().start_paused($paused).build().expect("the runtime is built")
        }
        $(
            $(#[$attr])*
            #[test]
            fn $name() {
                runtime().block_on(async $body)
            }
        )*
    };
}
