//! `#[sim::test]`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprLit, FnArg, ItemFn, Lit, MetaNameValue, ReturnType, Token};

const OPTIONS: &str = "seeds = 1000, time_limit = \"60s\", step_limit = 1000000, memory = \"512M\", perturb = false";

/// What the attribute says, as expressions of the emitted call.
#[derive(Default)]
struct Options {
    seeds: Option<u64>,
    time_limit_ns: Option<u64>,
    step_limit: Option<u64>,
    memory_bytes: Option<u64>,
    perturb: Option<bool>,
}

/// The test, or compile errors in its place.
pub fn expand(options: TokenStream, function: TokenStream) -> TokenStream {
    match syn::parse2::<ItemFn>(function.clone()) {
        Ok(f) => match emit(options, &f) {
            Ok(test) => test,
            Err(error) => {
                let error = error.to_compile_error();
                // The function stays, so that what it uses is not called unused on top of the real error.
                quote! { #error #[allow(dead_code)] #f }
            }
        },
        Err(_) => {
            let error = Error::new_spanned(function, "#[sim::test] stands on an `async fn name(sim: sim::Sim)`");
            error.to_compile_error()
        }
    }
}

fn emit(options: TokenStream, f: &ItemFn) -> syn::Result<TokenStream> {
    let options = parse_options(options)?;
    check_shape(f)?;
    let ItemFn { attrs, vis, sig, block } = f;
    let name = &sig.ident;
    let text = name.to_string();
    let output = match &sig.output {
        ReturnType::Default => quote! { () },
        ReturnType::Type(_, ty) => quote! { #ty },
    };
    let (pattern, ty) = match sig.inputs.first() {
        Some(FnArg::Typed(arg)) => {
            let (pat, ty) = (&arg.pat, &arg.ty);
            (quote! { #pat }, quote_spanned! { ty.span() => #ty })
        }
        _ => (quote! { _ }, quote! { ::sim::Sim }),
    };
    let seeds = number(options.seeds);
    let time_limit_ns = number(options.time_limit_ns);
    let step_limit = number(options.step_limit);
    let memory_bytes = number(options.memory_bytes);
    let perturb = options.perturb.unwrap_or(true);
    Ok(quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() {
            async fn __sim_body(#pattern: #ty) -> #output #block
            ::sim::__private::test(
                ::sim::__private::TestInfo {
                    name: ::core::concat!(::core::module_path!(), "::", #text),
                    location: ::core::panic::Location::caller(),
                    package: ::core::env!("CARGO_PKG_NAME"),
                    manifest_dir: ::core::env!("CARGO_MANIFEST_DIR"),
                    seeds: #seeds,
                    time_limit_ns: #time_limit_ns,
                    step_limit: #step_limit,
                    memory_bytes: #memory_bytes,
                    perturb: #perturb,
                },
                __sim_body,
            )
        }
    })
}

fn number(value: Option<u64>) -> TokenStream {
    match value {
        Some(n) => quote! { ::core::option::Option::Some(#n) },
        None => quote! { ::core::option::Option::None },
    }
}

fn check_shape(f: &ItemFn) -> syn::Result<()> {
    let sig = &f.sig;
    if sig.asyncness.is_none() {
        return Err(Error::new_spanned(sig.fn_token, "a simulated test is an `async fn`"));
    }
    if !sig.generics.params.is_empty() {
        return Err(Error::new_spanned(&sig.generics, "a simulated test has no generic parameters"));
    }
    let parameter = "a simulated test takes one parameter, `sim: sim::Sim`, or none";
    if sig.inputs.len() > 1 {
        return Err(Error::new_spanned(&sig.inputs, parameter));
    }
    if let Some(FnArg::Receiver(receiver)) = sig.inputs.first() {
        return Err(Error::new_spanned(receiver, parameter));
    }
    if let Some(FnArg::Typed(arg)) = sig.inputs.first() {
        let named_sim =
            matches!(&*arg.ty, syn::Type::Path(p) if p.path.segments.last().is_some_and(|s| s.ident == "Sim"));
        if !named_sim {
            return Err(Error::new_spanned(&arg.ty, parameter));
        }
    }
    for attr in &f.attrs {
        if attr.path().is_ident("should_panic") {
            return Err(Error::new_spanned(
                attr,
                "#[should_panic] would hide every failing seed; catch the panic in the body instead",
            ));
        }
        if attr.path().segments.last().is_some_and(|s| s.ident == "test") {
            return Err(Error::new_spanned(attr, "#[sim::test] makes the `#[test]` itself: remove this one"));
        }
    }
    Ok(())
}

fn parse_options(options: TokenStream) -> syn::Result<Options> {
    let list = Punctuated::<MetaNameValue, Token![,]>::parse_terminated
        .parse2(options)
        .map_err(|e| Error::new(e.span(), format!("expected options such as {OPTIONS}")))?;
    let mut found = Options::default();
    for option in &list {
        let Some(name) = option.path.get_ident() else {
            return Err(unknown(option.path.span(), "this"));
        };
        let value = &option.value;
        let twice = match name.to_string().as_str() {
            "seeds" => found.seeds.replace(at_least_one(value)?).is_some(),
            "time_limit" => found.time_limit_ns.replace(duration_ns(value)?).is_some(),
            "step_limit" => found.step_limit.replace(at_least_one(value)?).is_some(),
            "memory" => found.memory_bytes.replace(size_bytes(value)?).is_some(),
            "perturb" => found.perturb.replace(boolean(value)?).is_some(),
            other => return Err(unknown(name.span(), other)),
        };
        if twice {
            return Err(Error::new(name.span(), format!("`{name}` is given twice")));
        }
    }
    Ok(found)
}

fn unknown(span: Span, name: &str) -> Error {
    Error::new(span, format!("`{name}` is no option of #[sim::test]; the options are {OPTIONS}"))
}

fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { lit, .. }) => Some(lit),
        _ => None,
    }
}

fn at_least_one(value: &Expr) -> syn::Result<u64> {
    let n = match literal(value) {
        Some(Lit::Int(n)) => n.base10_parse::<u64>().ok(),
        _ => None,
    };
    n.filter(|n| *n > 0).ok_or_else(|| Error::new_spanned(value, "expected an integer of at least 1"))
}

fn boolean(value: &Expr) -> syn::Result<bool> {
    match literal(value) {
        Some(Lit::Bool(b)) => Ok(b.value),
        _ => Err(Error::new_spanned(value, "expected `true` or `false`")),
    }
}

fn duration_ns(value: &Expr) -> syn::Result<u64> {
    const UNITS: [(&str, u64); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    quantity(value, &UNITS, "s").ok_or_else(|| {
        Error::new_spanned(value, "expected a duration such as \"60s\", \"500ms\" or \"2h\", or whole seconds")
    })
}

fn size_bytes(value: &Expr) -> syn::Result<u64> {
    const UNITS: [(&str, u64); 4] = [("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    quantity(value, &UNITS, "")
        .ok_or_else(|| Error::new_spanned(value, "expected a size such as \"512M\" or \"1G\", or whole bytes"))
}

/// `"60s"` or `60`, in the smallest unit; `None` if it is neither, or 0, or too large.
fn quantity(value: &Expr, units: &[(&str, u64)], bare_unit: &str) -> Option<u64> {
    let text = match literal(value)? {
        Lit::Str(s) => s.value(),
        Lit::Int(n) if n.suffix().is_empty() => format!("{}{bare_unit}", n.base10_digits()),
        _ => return None,
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (figure, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    figure.parse::<u64>().ok()?.checked_mul(*factor).filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(options: TokenStream, function: TokenStream) -> String {
        expand(options, function).to_string()
    }

    fn good() -> TokenStream {
        quote! { async fn t(sim: Sim) { sim.now(); } }
    }

    #[test]
    fn options_become_fields_of_the_one_call() {
        let text = expanded(quote! { seeds = 10, time_limit = "1500ms", memory = "2M", perturb = false }, good());
        for part in
            ["seeds : :: core :: option :: Option :: Some (10u64)", "1500000000u64", "2097152u64", "perturb : false"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("compile_error"), "{text}");
        assert!(expanded(quote! { time_limit = 60 }, good()).contains("60000000000u64"));
    }

    #[test]
    fn mistakes_are_compile_errors_that_say_what_was_expected() {
        let f = good();
        for (options, function, expected) in [
            (quote! { sedes = 10 }, f.clone(), "`sedes` is no option of #[sim::test]; the options are seeds"),
            (quote! { seeds = 0 }, f.clone(), "an integer of at least 1"),
            (quote! { seeds }, f.clone(), "expected options such as"),
            (quote! { seeds = 1, seeds = 2 }, f.clone(), "given twice"),
            (quote! { time_limit = "60 parsecs" }, f.clone(), "expected a duration"),
            (quote! { perturb = 3 }, f.clone(), "`true` or `false`"),
            (quote! {}, quote! { fn t(sim: Sim) {} }, "is an `async fn`"),
            (quote! {}, quote! { async fn t(sim: u32) {} }, "takes one parameter"),
            (quote! {}, quote! { async fn t(sim: Sim, n: u32) {} }, "takes one parameter"),
            (quote! {}, quote! { async fn t<T>() {} }, "no generic parameters"),
            (quote! {}, quote! { #[should_panic] async fn t() {} }, "would hide every failing seed"),
            (quote! {}, quote! { #[test] async fn t() {} }, "remove this one"),
            (quote! {}, quote! { struct T; }, "stands on an `async fn"),
        ] {
            let text = expanded(options, function);
            assert!(text.contains("compile_error") && text.contains(expected), "{expected} in {text}");
        }
    }
}
