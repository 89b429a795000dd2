//! What the verbs print.

pub(crate) mod describe;
pub(crate) mod docker;
pub(crate) mod format;
#[macro_use]
pub(crate) mod line;
pub(crate) mod row;
pub(crate) mod table;
