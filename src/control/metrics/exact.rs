//! Families whose numbers must not pass through a float: written digit by digit.

use std::fmt::{self, Write as _};

use super::{
    Bounds,
    names::{Family, Kind},
};
use crate::handoff::counters::Histogram;

/// Appends a family whose values are numbers as text.
pub fn values(out: &mut String, family: &Family, series: &[(Vec<String>, String)]) -> fmt::Result {
    descriptor(out, family)?;
    for (values, value) in series {
        sample(out, family, "", values, None, value)?;
    }
    Ok(())
}

/// Appends a family of distributions: cumulative counts, sum and count.
pub fn histograms(
    out: &mut String,
    family: &Family,
    bounds: &Bounds,
    series: &[(Vec<String>, Histogram)],
) -> fmt::Result {
    descriptor(out, family)?;
    for (values, histogram) in series {
        let mut count = 0u64;
        let bounds = bounds.iter().map(|bound| seconds(u128::from(*bound)));
        let bounds = bounds.chain(["+Inf".to_owned()]);
        for (bound, more) in bounds.zip(histogram.buckets) {
            count += more;
            sample(out, family, "_bucket", values, Some(&bound), &count)?;
        }
        let sum = seconds(u128::from(histogram.sum_micros));
        sample(out, family, "_sum", values, None, &sum)?;
        sample(out, family, "_count", values, None, &count)?;
    }
    Ok(())
}

/// Millionths as decimal text: `0.00025`, `1.0`.
pub fn seconds(micros: u128) -> String {
    let part = format!("{:06}", micros % 1_000_000);
    let part = match part.trim_end_matches('0') {
        "" => "0",
        part => part,
    };
    format!("{}.{part}", micros / 1_000_000)
}

fn descriptor(out: &mut String, family: &Family) -> fmt::Result {
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let name = family.name;
    writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help)
}

/// Appends one line. `bound` is the upper bound of a bucket.
fn sample(
    out: &mut String,
    family: &Family,
    suffix: &str,
    values: &[String],
    bound: Option<&str>,
    value: &dyn fmt::Display,
) -> fmt::Result {
    write!(out, "{}{suffix}", family.name)?;
    let labels = family
        .labels
        .iter()
        .copied()
        .zip(values.iter().map(String::as_str));
    let mut before = '{';
    for (label, text) in labels.chain(bound.map(|bound| ("le", bound))) {
        write!(out, "{before}{label}=\"")?;
        escape(out, text);
        out.push('"');
        before = ',';
    }
    if before == ',' {
        out.push('}');
    }
    writeln!(out, " {value}")
}

/// Appends a label's value as the format wants it: callers choose model names.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        for (micros, text) in [
            (0, "0.0"),
            (1, "0.000001"),
            (250, "0.00025"),
            (1_000_000, "1.0"),
            (120_500_000, "120.5"),
            (u128::from(u64::MAX), "18446744073709.551615"),
        ] {
            assert_eq!(seconds(micros), text);
        }
    }
}
