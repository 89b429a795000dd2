//! The attribute of `skiff-sdk`. Use it from there.
//!
//! It reads the function's name and no more, so it needs no parser of Rust: what is wrong with the rest, the compiler says
//! at the place where it is.

use proc_macro::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};

/// Makes a function the component's HTTP handler.
#[proc_macro_attribute]
pub fn handler(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let expanded = match attribute.into_iter().next() {
        Some(token) => Err((token.span(), "the handler attribute takes nothing in parentheses")),
        None => name(&item).map(|name| export(&name)),
    };
    // The function stays as it is: an error in it is shown as well.
    let mut tokens = item;
    tokens.extend(expanded.unwrap_or_else(|(span, text)| error(span, text)));
    tokens
}

/// The name of the function, if it is one that can be called with a request.
fn name(item: &TokenStream) -> Result<Ident, (Span, &'static str)> {
    let mut tokens = item.clone().into_iter();
    while let Some(token) = tokens.next() {
        match &token {
            TokenTree::Ident(word) if word.to_string() == "async" => {
                let text = "a handler is a plain function: it has an instance of its own, so it may block";
                return Err((word.span(), text));
            }
            TokenTree::Ident(word) if word.to_string() == "fn" => {
                return match tokens.next() {
                    Some(TokenTree::Ident(name)) => Ok(name),
                    _ => Err((word.span(), "this function has no name")),
                };
            }
            TokenTree::Ident(word) if ["struct", "enum", "impl", "mod", "trait"].contains(&&*word.to_string()) => {
                return Err((word.span(), "only a function can be a handler"));
            }
            _ => {}
        }
    }
    Err((Span::call_site(), "only a function can be a handler"))
}

/// `::skiff_sdk::http!(name);`
fn export(name: &Ident) -> TokenStream {
    let ident = |text: &str| TokenTree::Ident(Ident::new(text, Span::call_site()));
    let mut tokens = colons();
    tokens.push(ident("skiff_sdk"));
    tokens.extend(colons());
    tokens.push(ident("http"));
    tokens.push(punct('!', Spacing::Alone));
    tokens.push(group(Delimiter::Parenthesis, TokenTree::Ident(name.clone()).into()));
    tokens.push(punct(';', Spacing::Alone));
    tokens.into_iter().collect()
}

/// `::core::compile_error! { "text" }`, at that place.
fn error(span: Span, text: &str) -> TokenStream {
    let mut tokens = colons();
    tokens.push(TokenTree::Ident(Ident::new("core", span)));
    tokens.extend(colons());
    tokens.push(TokenTree::Ident(Ident::new("compile_error", span)));
    tokens.push(punct('!', Spacing::Alone));
    tokens.push(group(Delimiter::Brace, TokenTree::Literal(proc_macro::Literal::string(text)).into()));
    let at = |mut token: TokenTree| {
        token.set_span(span);
        token
    };
    tokens.into_iter().map(at).collect()
}

fn colons() -> Vec<TokenTree> {
    vec![punct(':', Spacing::Joint), punct(':', Spacing::Alone)]
}

fn punct(sign: char, spacing: Spacing) -> TokenTree {
    TokenTree::Punct(Punct::new(sign, spacing))
}

fn group(delimiter: Delimiter, tokens: TokenStream) -> TokenTree {
    TokenTree::Group(Group::new(delimiter, tokens))
}
