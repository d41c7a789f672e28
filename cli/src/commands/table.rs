//! Text in columns.

use crate::output::format;

/// As [`format::table`], of a header that is known beforehand.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    format::table(&header, rows, right)
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long".into(), "100".into()],
        ];
        let expect = "NAME   SIZE\na         1\nlong    100\n";
        assert_eq!(table(&["NAME", "SIZE"], &rows, &[1]), expect);
        assert_eq!(table(&["NAME", "SIZE"], &[], &[1]), "NAME   SIZE\n");
    }
}
