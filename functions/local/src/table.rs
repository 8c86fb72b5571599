//! Rows as a table to read: the first row is the head, the first column is left-aligned, others are numbers.

/// The table as text, with a line under its head.
pub(crate) fn text(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut table = String::new();
    for (i, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        table.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        table.push('\n');
        if i == 0 {
            table.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * n_columns.saturating_sub(1)));
            table.push('\n');
        }
    }
    table
}

/// `number` with `decimals` digits after the point and thousands set apart by commas.
pub(crate) fn number(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let whole_len = text.find('.').unwrap_or(text.len());
    let mut grouped = String::with_capacity(text.len() + text.len() / 3);
    for (at, character) in text.char_indices() {
        let digits_left = whole_len.saturating_sub(at);
        if at > 0 && digits_left > 0 && digits_left.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(character);
    }
    grouped
}
