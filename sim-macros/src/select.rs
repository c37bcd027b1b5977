//! `tokio::select!`, in safe code.
//!
//! The grammar and the order of things are tokio's: conditions first, then every branch's expression, also a disabled
//! one's; then polls until one output matches its pattern; then all futures are dropped; then the handler runs, outside any
//! closure, so that `?`, `return`, `break` and `.await` mean in it what they mean around the macro.

use proc_macro2::{Group, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::{Expr, Ident, Pat, Token, token};

/// Most branches, as in tokio: one bit each says which are disabled.
const MAX_BRANCHES: usize = 64;

struct Select {
    /// How the caller names our crate.
    krate: TokenStream,
    biased: bool,
    branches: Vec<Branch>,
    otherwise: Option<Expr>,
}

struct Branch {
    pattern: Pat,
    future: Expr,
    condition: Option<Expr>,
    handler: Expr,
}

mod keyword {
    syn::custom_keyword!(biased);
}

impl Parse for Select {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let krate = input.parse::<Group>()?.stream();
        let mut select = Select { krate, biased: false, branches: Vec::new(), otherwise: None };
        if input.peek(keyword::biased) && input.peek2(Token![;]) {
            input.parse::<keyword::biased>()?;
            input.parse::<Token![;]>()?;
            select.biased = true;
        }
        while !input.is_empty() {
            if input.peek(Token![else]) {
                input.parse::<Token![else]>()?;
                input.parse::<Token![=>]>()?;
                select.otherwise = Some(input.parse()?);
                input.parse::<Option<Token![,]>>()?;
                if !input.is_empty() {
                    return Err(input.error("`else` is the last branch of select!"));
                }
                break;
            }
            if select.branches.len() == MAX_BRANCHES {
                return Err(input.error("up to 64 branches supported"));
            }
            select.branches.push(input.parse()?);
        }
        if select.branches.is_empty() && select.otherwise.is_none() {
            return Err(syn::Error::new(Span::call_site(), "select! requires at least one branch."));
        }
        Ok(select)
    }
}

impl Parse for Branch {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let pattern = Pat::parse_multi_with_leading_vert(input)?;
        input.parse::<Token![=]>()?;
        let future = input.parse()?;
        let condition = if input.peek(Token![,]) {
            input.parse::<Token![,]>()?;
            input.parse::<Token![if]>()?;
            Some(input.parse()?)
        } else {
            None
        };
        input.parse::<Token![=>]>()?;
        // A block ends the branch, whatever follows it; another expression needs a comma, unless it is the last.
        let is_block = input.peek(token::Brace);
        let handler = if is_block {
            Expr::Block(syn::ExprBlock { attrs: Vec::new(), label: None, block: input.parse()? })
        } else {
            input.parse()?
        };
        if input.peek(Token![,]) || !(is_block || input.is_empty()) {
            input.parse::<Token![,]>()?;
        }
        Ok(Branch { pattern, future, condition, handler })
    }
}

/// The expansion, or a compile error.
pub fn expand(input: TokenStream) -> TokenStream {
    match syn::parse2::<Select>(input) {
        Ok(select) => emit(select),
        Err(error) => error.to_compile_error(),
    }
}

fn emit(select: Select) -> TokenStream {
    let Select { krate, biased, branches, otherwise } = select;
    // Locals of the expansion cannot be seen by the caller's code, and the other way round.
    let here = Span::mixed_site();
    let otherwise = match otherwise {
        Some(expression) => quote! { #expression },
        None => quote! { ::core::panic!("all branches are disabled and there is no else branch") },
    };
    if branches.is_empty() {
        return quote! { { #otherwise } };
    }
    let count = branches.len() as u32;
    let name = |prefix: &str, i: usize| Ident::new(&format!("{prefix}_{i}"), here);
    let variants: Vec<Ident> = (0..branches.len()).map(|i| format_ident!("_{i}")).collect();
    let made: Vec<Ident> = (0..branches.len()).map(|i| name("made", i)).collect();
    let futures: Vec<Ident> = (0..branches.len()).map(|i| name("future", i)).collect();
    let indices: Vec<syn::Index> = (0..branches.len()).map(syn::Index::from).collect();
    let numbers: Vec<u32> = (0..count).collect();

    let conditions = branches.iter().zip(&numbers).filter_map(|(branch, i)| {
        let condition = branch.condition.as_ref()?;
        Some(quote_spanned! { here=>
            let holds: bool = #condition;
            if !holds {
                disabled |= 1u64 << #i;
            }
        })
    });
    let expressions = branches.iter().map(|b| &b.future);
    // Declared last to first, so that they are dropped first to last.
    let pins = made.iter().zip(&futures).rev().map(|(made, future)| {
        quote_spanned! { here=> let mut #future = ::core::pin::pin!(#made); }
    });
    let polls = branches.iter().zip(&futures).zip(&variants).zip(&numbers).map(|(((branch, future), variant), i)| {
        let mut pattern = branch.pattern.clone();
        by_reference(&mut pattern);
        quote_spanned! { here=>
            #i => {
                let output = match ::core::future::Future::poll(#future.as_mut(), context) {
                    ::core::task::Poll::Ready(output) => output,
                    ::core::task::Poll::Pending => {
                        pending = true;
                        continue;
                    }
                };
                disabled |= 1u64 << #i;
                #[allow(unused_variables, unused_parens, unreachable_patterns)]
                match &output {
                    #pattern => {}
                    _ => continue,
                }
                return ::core::task::Poll::Ready(__Selected::#variant(output));
            }
        }
    });
    let handlers = branches.iter().zip(&variants).map(|(branch, variant)| {
        let Branch { pattern, handler, .. } = branch;
        quote_spanned! { here=> __Selected::#variant(#pattern) => #handler, }
    });
    let start = if biased {
        quote! { 0u32 }
    } else {
        quote! { #krate::__private::select_start(#count) }
    };
    quote_spanned! { here=> {
        #[allow(non_camel_case_types)]
        enum __Selected<#(#variants),*> {
            #(#variants(#variants),)*
            __Disabled,
        }
        let mut disabled: u64 = 0;
        #(#conditions)*
        let selected = {
            let expressions = (#(#expressions,)*);
            #(let #made = ::core::future::IntoFuture::into_future(expressions.#indices);)*
            #(#pins)*
            let selected = ::core::future::poll_fn(|context| {
                let mut pending = false;
                let start: u32 = #start;
                for i in 0..#count {
                    let branch = if start + i < #count { start + i } else { start + i - #count };
                    if disabled & (1u64 << branch) != 0 {
                        continue;
                    }
                    match branch {
                        #(#polls)*
                        _ => ::core::unreachable!("a branch is below their count"),
                    }
                }
                if pending {
                    ::core::task::Poll::Pending
                } else {
                    ::core::task::Poll::Ready(__Selected::__Disabled)
                }
            })
            .await;
            selected
        };
        #[allow(unreachable_patterns)]
        match selected {
            #(#handlers)*
            __Selected::__Disabled => #otherwise,
            _ => ::core::unreachable!("an output was matched before it was selected"),
        }
    } }
}

/// The pattern for a look at an output that is moved later: without `ref` and `mut`.
fn by_reference(pattern: &mut Pat) {
    match pattern {
        Pat::Ident(p) => {
            p.by_ref = None;
            p.mutability = None;
            if let Some((_, p)) = &mut p.subpat {
                by_reference(p);
            }
        }
        Pat::Or(p) => p.cases.iter_mut().for_each(by_reference),
        Pat::Paren(p) => by_reference(&mut p.pat),
        Pat::Slice(p) => p.elems.iter_mut().for_each(by_reference),
        Pat::Struct(p) => p.fields.iter_mut().for_each(|field| by_reference(&mut field.pat)),
        Pat::Tuple(p) => p.elems.iter_mut().for_each(by_reference),
        Pat::TupleStruct(p) => p.elems.iter_mut().for_each(by_reference),
        Pat::Type(p) => by_reference(&mut p.pat),
        Pat::Reference(p) => {
            p.mutability = None;
            by_reference(&mut p.pat);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(input: TokenStream) -> String {
        expand(input).to_string()
    }

    #[test]
    fn commas_may_follow_blocks_and_must_follow_other_expressions() {
        for good in [
            quote! { (c) a = f() => 1 },
            quote! { (c) a = f() => 1, },
            quote! { (c) a = f() => { 1 } b = g() => 2 },
            quote! { (c) a = f() => { 1 }, b = g(), if x > 1 => { 2 } else => 3 },
            quote! { (c) biased; Some(a) | Ok(a) = f() => 1, else => { 2 }, },
            quote! { (c) else => 1 },
        ] {
            let text = expanded(good);
            assert!(!text.contains("compile_error"), "{text}");
        }
    }

    #[test]
    fn mistakes_are_compile_errors_in_tokios_words_where_it_has_any() {
        let branches = (0..65).map(|_| quote! { _ = f() => 1, });
        for (bad, expected) in [
            (quote! { (c) }, "select! requires at least one branch."),
            (quote! { (c) biased; }, "select! requires at least one branch."),
            (quote! { (c) a = f() => 1 b = g() => 2 }, "expected `,`"),
            (quote! { (c) else => 1, a = f() => 2 }, "`else` is the last branch"),
            (quote! { (c) a = f(), unless x => 2 }, "expected `if`"),
            (quote! { (c) #(#branches)* }, "up to 64 branches supported"),
        ] {
            let text = expanded(bad);
            assert!(text.contains("compile_error") && text.contains(expected), "{expected} in {text}");
        }
    }
}
