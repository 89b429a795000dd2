//! What is wrong with a manifest, and where.

use std::fmt;

/// An error in a manifest: the file, the place in it, the field, what is wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    pub file: String,
    /// From 1; 0 when the whole file is meant.
    pub line: u64,
    pub column: u64,
    /// The field's path in the document, such as `http.routes[0].path`; empty for the document itself.
    pub field: String,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": ")?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ManifestError {}

/// The same, before the file is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fault {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn in_file(self, file: &str) -> ManifestError {
        ManifestError {
            file: file.to_owned(),
            line: self.line,
            column: self.column,
            field: self.field,
            message: self.message,
            hint: self.hint,
        }
    }
}
