//! Numbers for people: three digits that matter.

use crate::table::number;

/// A count or a rate: 12, 1.5 k, 23.4 M.
pub(crate) fn quantity(n: f64) -> String {
    const STEPS: [(f64, &str); 5] = [(1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    if n == 0.0 {
        return "–".to_owned();
    }
    // One below the next step is shown as that step, not as 1,000 of this one.
    let found = STEPS.iter().find(|(step, _)| n.abs() >= step * 0.999_5);
    let (shown, unit) = found.map_or((n, ""), |(step, unit)| (n / step, *unit));
    format!("{}{unit}", digits(shown))
}

/// Dollars; a price below a cent keeps two digits that matter.
pub(crate) fn dollars(dollars: f64) -> String {
    let decimals = match dollars.abs() {
        0.0 => 2,
        less if less < 0.000_001 => 9,
        less if less < 0.0001 => 7,
        less if less < 0.01 => 5,
        less if less < 1.0 => 4,
        less if less < 1000.0 => 2,
        _ => 0,
    };
    format!("${}", number(dollars, decimals))
}

fn digits(n: f64) -> String {
    let decimals = match n.abs() {
        less if less < 1.0 => 3,
        less if less < 10.0 => 2,
        less if less < 100.0 => 1,
        _ => 0,
    };
    let text = number(n, decimals);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (n, text) in [
            (0.0, "–"),
            (0.25, "0.25"),
            (4.88, "4.88"),
            (12.0, "12"),
            (999.0, "999"),
            (999.9, "1 k"),
            (1_500.0, "1.5 k"),
            (48_828.0, "48.8 k"),
            (2.592e14, "259 T"),
        ] {
            assert_eq!(quantity(n), text, "{n}");
        }
        for (n, text) in [
            (0.0, "$0.00"),
            (5.8e-6, "$0.0000058"),
            (0.005_81, "$0.00581"),
            (0.3125, "$0.3125"),
            (12.345, "$12.35"),
            (1_500_000.0, "$1,500,000"),
        ] {
            assert_eq!(dollars(n), text, "{n}");
        }
    }
}
