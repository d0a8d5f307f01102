//! Amounts, as people read them.

/// A number of bytes in the largest unit of which there is at least one, as rounded.
#[must_use]
pub fn bytes(number: f64) -> String {
    const LAST: &str = "TB";
    let mut value = number;
    for unit in ["B", "kB", "MB", "GB"] {
        let (digits, most) = if unit == "B" { (0, 999.5) } else { (1, 999.95) };
        if value < most {
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} {LAST}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_largest_unit() {
        let shown = [0.0, 999.0, 999.6, 1500.0, 999_960.0, 2e9, 3e15].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.5 kB", "1.0 MB", "2.0 GB", "3000.0 TB"]);
    }
}
