//! Tables as kubectl prints them: columns apart by spaces, no lines.

use comfy_table::{ContentArrangement, Table, presets};

/// The rows under a header. An empty header prints the rows alone.
pub(crate) fn render(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.to_vec());
    }
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    let text = table.to_string();
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let text = render(&["NAME", "READY"], vec![vec!["cart".into(), "1/1".into()], vec!["a".into(), "0/10".into()]]);
        assert_eq!(text, "NAME   READY\ncart   1/1\na      0/10\n");
    }
}
