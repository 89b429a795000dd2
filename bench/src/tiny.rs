//! Small components, each with machine code of its own: what a fleet of many small services is made of.
//!
//! A component answers 200 with its number in a header, so that an answer also says who gave it. Its code is generated
//! from the number, so that no two share a file, a mapping or a page.

use std::fmt::Write;

use anyhow::{Context, Result};

/// The header that holds the number.
pub(crate) const HEADER: &str = "x-number";

/// Functions with constants of their own: some pages of code, as the smallest useful services have.
const FUNCTIONS: usize = 24;

/// The bytes of a component.
pub(crate) fn component(number: usize) -> Result<Vec<u8>> {
    wat::parse_str(text(number)).with_context(|| format!("failed to make component {number}"))
}

fn text(number: usize) -> String {
    let mut functions = String::new();
    for index in 0..FUNCTIONS {
        // Odd, so that multiplying loses nothing; of every number and function its own.
        let constant = (number * FUNCTIONS + index) * 2 + 1;
        // Writing to a string cannot fail.
        let _ = write!(
            functions,
            "(func $mix{index} (param i32) (result i32) (i32.xor (i32.mul (local.get 0) (i32.const {constant})) (i32.const {})))",
            constant ^ 0x5bd1
        );
    }
    let mixed = (0..FUNCTIONS).fold("(i32.const 1)".to_owned(), |inner, index| format!("(call $mix{index} {inner})"));
    let digits = number.to_string();
    TEMPLATE
        .replace("{functions}", &functions)
        .replace("{mixed}", &mixed)
        .replace("{digits}", &digits)
        .replace("{length}", &digits.len().to_string())
}

const TEMPLATE: &str = include_str!("tiny.wat");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_another_component() {
        let [one, two] = [1, 2].map(|number| component(number).unwrap());
        assert_ne!(one, two);
        assert_eq!(&one[..4], b"\0asm");
    }
}
