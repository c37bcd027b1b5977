//! `#[tokio::test]` and `#[tokio::main]` of the simulator: tokio's options, rules and texts.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Expr, ExprLit, ItemFn, Lit, Meta, Path, ReturnType, Token};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Main,
    Test,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Main => "tokio::main",
            Kind::Test => "tokio::test",
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Flavor {
    CurrentThread,
    MultiThread,
}

/// What the attribute says. The span is the value's, for errors that only show when all is known.
#[derive(Default)]
struct Options {
    flavor: Option<Flavor>,
    worker_threads: Option<(usize, Span)>,
    start_paused: Option<(bool, Span)>,
    name: Option<String>,
    krate: Option<Path>,
}

/// `#[tokio::test]`.
pub fn test(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Test, options, function)
}

/// `#[tokio::main]`.
pub fn main(options: TokenStream, function: TokenStream) -> TokenStream {
    expand(Kind::Main, options, function)
}

fn expand(kind: Kind, options: TokenStream, function: TokenStream) -> TokenStream {
    let f: ItemFn = match syn::parse2(function.clone()) {
        Ok(f) => f,
        Err(error) => {
            let error = error.to_compile_error();
            return quote! { #function #error };
        }
    };
    let checked = check(kind, &f).and_then(|()| parse(kind, options));
    match checked {
        Ok(options) => emit(kind, &options, &f),
        Err(error) => {
            // The function stays, so that what it uses is not called unused on top of the real error.
            let (error, function) = (error.to_compile_error(), emit(kind, &Options::default(), &f));
            quote! { #function #error }
        }
    }
}

fn check(kind: Kind, f: &ItemFn) -> syn::Result<()> {
    if kind == Kind::Test {
        if let Some(attr) = f.attrs.iter().find(|attr| is_test_attribute(attr)) {
            let text =
                "second test attribute is supplied, consider removing or changing the order of your test attributes";
            return Err(Error::new_spanned(attr, text));
        }
        if !f.sig.inputs.is_empty() {
            return Err(Error::new_spanned(&f.sig.inputs, "the test function cannot accept arguments"));
        }
    } else if f.sig.ident == "main" && !f.sig.inputs.is_empty() {
        return Err(Error::new_spanned(&f.sig.ident, "the main function cannot accept arguments"));
    }
    if f.sig.asyncness.is_none() {
        let text = "the `async` keyword is missing from the function declaration";
        return Err(Error::new_spanned(f.sig.fn_token, text));
    }
    Ok(())
}

/// `#[test]`, also by its full path in the prelude of core or std.
fn is_test_attribute(attr: &Attribute) -> bool {
    let Meta::Path(path) = &attr.meta else { return false };
    let names: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["test"] => path.leading_colon.is_none(),
        ["core" | "std", "prelude", _, "test"] => true,
        _ => false,
    }
}

fn parse(kind: Kind, options: TokenStream) -> syn::Result<Options> {
    const EXPECTED: &str =
        "expected one of: `flavor`, `worker_threads`, `start_paused`, `crate`, `unhandled_panic`, `name`.";
    let mut found = Options::default();
    for option in Punctuated::<Meta, Token![,]>::parse_terminated.parse2(options)? {
        let ident = |path: &Path| match path.get_ident() {
            Some(ident) => Ok(ident.to_string().to_lowercase()),
            None => Err(Error::new_spanned(path, "Must have specified ident")),
        };
        let (name, value) = match &option {
            Meta::NameValue(pair) => (ident(&pair.path)?, &pair.value),
            Meta::Path(path) => {
                let name = ident(path)?;
                let text = match name.as_str() {
                    "threaded_scheduler" | "multi_thread" => {
                        format!("Set the runtime flavor with #[{}(flavor = \"multi_thread\")].", kind.name())
                    }
                    "basic_scheduler" | "current_thread" | "single_threaded" => {
                        format!("Set the runtime flavor with #[{}(flavor = \"current_thread\")].", kind.name())
                    }
                    "flavor" | "worker_threads" | "start_paused" | "crate" | "unhandled_panic" | "name" => {
                        format!("The `{name}` attribute requires an argument.")
                    }
                    _ => format!("Unknown attribute {name} is specified; {EXPECTED}"),
                };
                return Err(Error::new_spanned(path, text));
            }
            Meta::List(list) => return Err(Error::new_spanned(list, "Unknown attribute inside the macro")),
        };
        let Expr::Lit(ExprLit { lit, .. }) = value else {
            return Err(Error::new_spanned(value, "Must be a literal"));
        };
        let span = lit.span();
        let twice = match name.as_str() {
            "flavor" => found.flavor.replace(flavor(&string(lit, "flavor")?, span)?).is_some(),
            "worker_threads" => found.worker_threads.replace((integer(lit, "worker_threads")?, span)).is_some(),
            "start_paused" => found.start_paused.replace((boolean(lit, "start_paused")?, span)).is_some(),
            "crate" => found.krate.replace(path(lit, "crate")?).is_some(),
            "name" => found.name.replace(string(lit, "name")?).is_some(),
            "core_threads" => {
                let text = "Attribute `core_threads` is renamed to `worker_threads`";
                return Err(Error::new_spanned(&option, text));
            }
            "unhandled_panic" => {
                let text = "`unhandled_panic` is unstable in tokio and not part of the simulator";
                return Err(Error::new_spanned(&option, text));
            }
            _ => {
                return Err(Error::new_spanned(&option, format!("Unknown attribute {name} is specified; {EXPECTED}")));
            }
        };
        if twice {
            return Err(Error::new(span, format!("`{name}` set multiple times.")));
        }
    }
    let requires = |option: &str, flavor: &str| {
        format!(
            "The `{option}` option requires the `{flavor}` runtime flavor. Use `#[{}(flavor = \"{flavor}\")]`",
            kind.name()
        )
    };
    match (resolve(kind, &found), found.worker_threads, found.start_paused) {
        (_, Some((0, span)), _) => Err(Error::new(span, "`worker_threads` may not be 0.")),
        (Flavor::CurrentThread, Some((_, span)), _) => {
            Err(Error::new(span, requires("worker_threads", "multi_thread")))
        }
        (Flavor::MultiThread, _, Some((_, span))) => Err(Error::new(span, requires("start_paused", "current_thread"))),
        _ => Ok(found),
    }
}

fn resolve(kind: Kind, options: &Options) -> Flavor {
    let default = if kind == Kind::Test { Flavor::CurrentThread } else { Flavor::MultiThread };
    options.flavor.unwrap_or(default)
}

fn flavor(text: &str, span: Span) -> syn::Result<Flavor> {
    let message = match text {
        "current_thread" => return Ok(Flavor::CurrentThread),
        "multi_thread" => return Ok(Flavor::MultiThread),
        "local" => "The flavor `local` is not part of the simulator: use `current_thread` and a `LocalSet`.".to_owned(),
        "single_thread" => "The single threaded runtime flavor is called `current_thread`.".to_owned(),
        "basic_scheduler" => "The `basic_scheduler` runtime flavor has been renamed to `current_thread`.".to_owned(),
        "threaded_scheduler" => {
            "The `threaded_scheduler` runtime flavor has been renamed to `multi_thread`.".to_owned()
        }
        other => format!(
            "No such runtime flavor `{other}`. The runtime flavors are `current_thread`, `local`, and `multi_thread`."
        ),
    };
    Err(Error::new(span, message))
}

fn string(lit: &Lit, field: &str) -> syn::Result<String> {
    match lit {
        Lit::Str(s) => Ok(s.value()),
        _ => Err(Error::new_spanned(lit, format!("Failed to parse value of `{field}` as string."))),
    }
}

fn integer(lit: &Lit, field: &str) -> syn::Result<usize> {
    match lit {
        Lit::Int(n) => n
            .base10_parse()
            .map_err(|e| Error::new_spanned(lit, format!("Failed to parse value of `{field}` as integer: {e}"))),
        _ => Err(Error::new_spanned(lit, format!("Failed to parse value of `{field}` as integer."))),
    }
}

fn boolean(lit: &Lit, field: &str) -> syn::Result<bool> {
    match lit {
        Lit::Bool(b) => Ok(b.value),
        _ => Err(Error::new_spanned(lit, format!("Failed to parse value of `{field}` as bool."))),
    }
}

fn path(lit: &Lit, field: &str) -> syn::Result<Path> {
    match lit {
        Lit::Str(s) => s.parse().map_err(|_| {
            Error::new_spanned(lit, format!("Failed to parse value of `{field}` as path: \"{}\"", s.value()))
        }),
        _ => Err(Error::new_spanned(lit, format!("Failed to parse value of `{field}` as path."))),
    }
}

fn emit(kind: Kind, options: &Options, f: &ItemFn) -> TokenStream {
    let krate = match &options.krate {
        Some(path) => path.to_token_stream(),
        None => quote! { tokio },
    };
    let multi_thread = resolve(kind, options) == Flavor::MultiThread;
    let ItemFn { attrs, vis, sig, block } = f;
    let mut sig = sig.clone();
    sig.asyncness = None;
    if kind == Kind::Main {
        let mut builder = if multi_thread {
            quote! { #krate::runtime::Builder::new_multi_thread() }
        } else {
            quote! { #krate::runtime::Builder::new_current_thread() }
        };
        if let Some((n, _)) = options.worker_threads {
            builder = quote! { #builder.worker_threads(#n) };
        }
        if let Some((paused, _)) = options.start_paused {
            builder = quote! { #builder.start_paused(#paused) };
        }
        if let Some(name) = &options.name {
            builder = quote! { #builder.name(#name) };
        }
        // As in tokio: `return`, so that a type mismatch points at the body.
        return quote! {
            #(#attrs)*
            #vis #sig {
                let body = async #block;
                #[allow(clippy::expect_used, clippy::diverging_sub_expression, clippy::needless_return)]
                {
                    return #builder.enable_all().build().expect("Failed building the Runtime").block_on(body);
                }
            }
        };
    }
    let name = sig.ident.to_string();
    let output = std::mem::replace(&mut sig.output, ReturnType::Default);
    let output = match &output {
        ReturnType::Default => quote! { () },
        ReturnType::Type(_, ty) => quote! { #ty },
    };
    let should_panic = attrs.iter().any(|attr| attr.path().is_ident("should_panic"));
    let start_paused = options.start_paused.is_some_and(|(paused, _)| paused);
    let worker_threads = optional(options.worker_threads.map(|(n, _)| quote! { #n }));
    let runtime_name = optional(options.name.as_ref().map(|name| quote! { #name }));
    quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis #sig {
            async fn __sim_body() -> #output #block
            #krate::__private::test(
                #krate::__private::TestInfo {
                    name: ::core::concat!(::core::module_path!(), "::", #name),
                    location: ::core::panic::Location::caller(),
                    package: ::core::env!("CARGO_PKG_NAME"),
                    manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
                    should_panic: #should_panic,
                    multi_thread: #multi_thread,
                    worker_threads: #worker_threads,
                    start_paused: #start_paused,
                    runtime_name: #runtime_name,
                },
                __sim_body,
            )
        }
    }
}

fn optional(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote! { ::core::option::Option::Some(#value) },
        None => quote! { ::core::option::Option::None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_reach_the_builder() {
        let f = quote! { async fn t() { go().await } };
        let text = test(quote! { flavor = "multi_thread", worker_threads = 3 }, f.clone()).to_string();
        assert!(text.contains("multi_thread : true , worker_threads : :: core :: option :: Option :: Some (3usize)"));
        let text = test(quote! { start_paused = true, crate = "other::tokio" }, f.clone()).to_string();
        assert!(text.contains("other :: tokio :: __private :: test"), "{text}");
        assert!(text.contains("start_paused : true") && !text.contains("compile_error"), "{text}");
        let text = main(quote! {}, quote! { async fn main() -> u8 { 7 } }).to_string();
        assert!(text.contains("new_multi_thread") && !text.contains("compile_error"), "{text}");
    }

    #[test]
    fn mistakes_are_compile_errors_in_tokios_words() {
        let f = quote! { async fn main() {} };
        for (options, function, expected) in [
            (quote! { threads = 1 }, f.clone(), "Unknown attribute threads is specified; expected one of: `flavor`"),
            (quote! { flavor }, f.clone(), "The `flavor` attribute requires an argument."),
            (quote! { multi_thread }, f.clone(), "Set the runtime flavor with #[tokio::test(flavor = "),
            (quote! { flavor = "fast" }, f.clone(), "No such runtime flavor `fast`."),
            (quote! { flavor = 3 }, f.clone(), "Failed to parse value of `flavor` as string."),
            (quote! { worker_threads = 2 }, f.clone(), "requires the `multi_thread` runtime flavor"),
            (quote! { flavor = "multi_thread", worker_threads = 0 }, f.clone(), "`worker_threads` may not be 0."),
            (quote! { flavor = "multi_thread", start_paused = true }, f.clone(), "requires the `current_thread`"),
            (quote! { start_paused = true, start_paused = true }, f.clone(), "`start_paused` set multiple times."),
            (quote! { core_threads = 1 }, f.clone(), "renamed to `worker_threads`"),
            (quote! {}, quote! { fn t() {} }, "the `async` keyword is missing"),
            (quote! {}, quote! { async fn t(x: u8) {} }, "the test function cannot accept arguments"),
            (quote! {}, quote! { #[test] async fn t() {} }, "second test attribute is supplied"),
        ] {
            let text = test(options, function).to_string();
            assert!(text.contains("compile_error") && text.contains(expected), "{expected} in {text}");
        }
        let text = main(quote! {}, quote! { async fn main(x: u8) {} }).to_string();
        assert!(text.contains("the main function cannot accept arguments"), "{text}");
    }
}
