//! What a file mentions: every path in full, every member, every async thing, with its line.
//!
//! Paths are followed through `use` (also renamed, nested and chained) and `self` and `super`, and are found inside macro
//! calls too, whose arguments are only tokens. Code for tests is left out. What is not followed are re-exports by other
//! modules: a rule that must be watertight says which modules may be used at all, as [`super::purity`] does.

use std::collections::HashMap;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, UseTree};

use super::source::{File, is_test_only};

/// More links than any honest chain of `use` has; a circle ends here.
const LINKS_MAX: usize = 8;

/// A path, written with `::`, or a member; and its line.
#[derive(Debug, PartialEq)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) line: usize,
}

#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Each path from a crate's name or `crate`. A glob ends in `::*`, a macro in `!`.
    pub(super) paths: Vec<Mention>,
    /// Fields and methods after a dot.
    pub(super) members: Vec<Mention>,
    /// `async` and `await`.
    pub(super) asyncs: Vec<Mention>,
}

pub(super) fn mentions(file: &File) -> Mentions {
    let mut visitor = Visitor { module: file.module.clone(), ..Visitor::default() };
    visitor.visit_file(&file.syntax);
    let Visitor { raw, aliases, mut found, .. } = visitor;
    found.paths =
        raw.into_iter().map(|(path, line)| Mention { name: resolved(path, &aliases).join("::"), line }).collect();
    found
}

/// Whether `path` is `prefix` or lies below it; a glob is, when it brings in something of `prefix`.
pub(super) fn is_within(path: &str, prefix: &str) -> bool {
    let below = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    below(path, prefix) || path.strip_suffix("::*").is_some_and(|opened| below(prefix, opened))
}

fn resolved(mut path: Vec<String>, aliases: &HashMap<String, Vec<String>>) -> Vec<String> {
    for _ in 0..LINKS_MAX {
        match aliases.get(&path[0]) {
            Some(full) if full.len() > 1 || full[0] != path[0] => {
                path = full.iter().cloned().chain(path.into_iter().skip(1)).collect();
            }
            _ => break,
        }
    }
    path
}

#[derive(Default)]
struct Visitor {
    module: Vec<String>,
    /// Paths from the crate's root, but not yet through `use`.
    raw: Vec<(Vec<String>, usize)>,
    aliases: HashMap<String, Vec<String>>,
    found: Mentions,
}

impl Visitor {
    fn path(&mut self, segments: Vec<String>, line: usize) {
        if !segments.is_empty() {
            let path = self.absolute(segments);
            self.raw.push((path, line));
        }
    }

    /// Replaces `self` and `super` at the start by the module that they mean.
    fn absolute(&self, segments: Vec<String>) -> Vec<String> {
        let mut module = self.module.clone();
        let mut used = 0;
        for segment in &segments {
            match segment.as_str() {
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            used += 1;
        }
        match used {
            0 => segments,
            _ => module.into_iter().chain(segments.into_iter().skip(used)).collect(),
        }
    }

    fn uses(&mut self, tree: &UseTree, before: &[String]) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(path) => self.uses(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.uses(item, before)),
            UseTree::Glob(_) => self.path(with("*".to_owned()), line),
            UseTree::Name(name) if name.ident == "self" => {
                self.alias(before.last().cloned().unwrap_or_default(), before.to_vec(), line);
            }
            UseTree::Name(name) => self.alias(name.ident.to_string(), with(name.ident.to_string()), line),
            UseTree::Rename(rename) if rename.ident == "self" => {
                self.alias(rename.rename.to_string(), before.to_vec(), line);
            }
            UseTree::Rename(rename) => self.alias(rename.rename.to_string(), with(rename.ident.to_string()), line),
        }
    }

    fn alias(&mut self, name: String, path: Vec<String>, line: usize) {
        let full = self.absolute(path.clone());
        self.path(path, line);
        if !full.is_empty() {
            self.aliases.insert(name, full);
        }
    }

    /// Paths, members and async things in the arguments of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        let mut dot = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    let name = ident.to_string();
                    if colons != 2 {
                        self.path(std::mem::take(&mut path), line);
                        line = ident.span().start().line;
                    }
                    if matches!(name.as_str(), "async" | "await") {
                        self.found.asyncs.push(Mention { name, line });
                    } else if dot {
                        self.found.members.push(Mention { name, line });
                    } else {
                        path.push(name);
                    }
                    (colons, dot) = (0, false);
                }
                TokenTree::Punct(punct) => {
                    // A macro's name, and not the start of `!=`.
                    if punct.as_char() == '!'
                        && punct.spacing() == Spacing::Alone
                        && colons == 0
                        && let Some(last) = path.last_mut()
                    {
                        last.push('!');
                    }
                    colons = if punct.as_char() == ':' { colons + 1 } else { 0 };
                    dot = punct.as_char() == '.';
                }
                TokenTree::Group(group) => {
                    self.path(std::mem::take(&mut path), line);
                    (colons, dot) = (0, false);
                    self.tokens(group.stream());
                }
                TokenTree::Literal(_) => (colons, dot) = (0, false),
            }
        }
        self.path(path, line);
    }

    fn asynchronous(&mut self, name: &str, at: &impl Spanned) {
        self.found.asyncs.push(Mention { name: name.to_owned(), line: at.span().start().line });
    }
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attrs_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attrs = match item {
            ImplItem::Fn(item) => item.attrs.as_slice(),
            ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_test_only(attrs) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.uses(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.path(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let mut segments: Vec<String> = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(last) = segments.last_mut() {
            last.push('!');
        }
        self.path(segments, call.path.span().start().line);
        self.tokens(call.tokens.clone());
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.found.members.push(Mention { name: call.method.to_string(), line: call.method.span().start().line });
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
        if let syn::Member::Named(name) = &field.member {
            self.found.members.push(Mention { name: name.to_string(), line: name.span().start().line });
        }
        visit::visit_expr_field(self, field);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(token) = &signature.asyncness {
            self.asynchronous("async fn", token);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.asynchronous("async block", block);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        if let Some(token) = &closure.asyncness {
            self.asynchronous("async closure", token);
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_await(&mut self, expr: &'ast syn::ExprAwait) {
        self.asynchronous("await", expr);
        visit::visit_expr_await(self, expr);
    }
}

fn attrs_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let file = File::example("a/src/plan/x.rs", text);
        mentions(&file).paths.into_iter().map(|mention| mention.name).collect()
    }

    fn has(text: &str, path: &str) -> bool {
        paths(text).iter().any(|found| found == path)
    }

    #[test]
    fn paths_are_followed_through_use() {
        assert!(has("use std::time::Instant;\nfn f() { Instant::now(); }", "std::time::Instant::now"));
        assert!(has("use std::{time::{self as t}};\nfn f() { t::Instant::now(); }", "std::time::Instant::now"));
        assert!(has("use std as s;\nuse s::time;\nfn f() { time::Instant::now(); }", "std::time::Instant::now"));
        assert!(has("fn f(x: std::fs::File) {}", "std::fs::File"));
        assert!(has("fn f() { use std::env; env::var(\"A\"); }", "std::env::var"));
        assert!(has("use std::time::*;", "std::time::*"));
    }

    #[test]
    fn modules_are_named_from_the_root() {
        assert!(has("use super::y::Z;\nfn f(z: Z) {}", "crate::plan::y::Z"));
        assert!(has("use super::super::clock;\nfn f() { clock::now(); }", "crate::clock::now"));
        assert!(has("mod inner { fn f() { super::g(); } }", "crate::plan::x::g"));
    }

    #[test]
    fn macros_are_looked_into() {
        assert!(has("use std::time::Instant;\nfn f() { vec![(1, Instant::now())]; }", "std::time::Instant::now"));
        let file = File::example("a/src/x.rs", "fn f() { join!(async { x.load().await }); }");
        let found = mentions(&file);
        assert_eq!(found.asyncs.len(), 2);
        assert_eq!(found.members, [Mention { name: "load".into(), line: 1 }]);
    }

    #[test]
    fn tests_are_left_out() {
        let text = "#[cfg(test)]\nmod tests { use std::fs; }\nimpl X { #[cfg(test)] fn f() { std::env::vars(); } }";
        assert!(paths(text).iter().all(|path| !path.starts_with("std")), "{:?}", paths(text));
    }

    #[test]
    fn a_circle_of_aliases_ends() {
        assert!(!paths("use a::b; use b::a;\nfn f() { a::c(); }").is_empty());
    }

    #[test]
    fn a_glob_is_within_what_it_opens() {
        assert!(is_within("std::fs::read", "std::fs"));
        assert!(!is_within("std::fs_extra", "std::fs"));
        assert!(is_within("std::*", "std::fs"));
        assert!(is_within("std::time::*", "std::time::Instant"));
        assert!(!is_within("std::collections::*", "std::fs"));
    }
}
