//! Money, exactly: whole pico-dollars, prices read from decimal text, no float anywhere.

use std::fmt;

use super::usage::Usage;

/// An amount in pico-dollars (10⁻¹² USD). The largest is some 18 million dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PicoDollars(pub u64);

impl fmt::Display for PicoDollars {
    /// Prints the exact amount in dollars, without trailing zeros: `0.00000015`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(u128::from(self.0), 12))
    }
}

/// A sum of pico-dollars in dollars, exactly and without trailing zeros.
pub fn dollars(picos: u128) -> String {
    decimal(picos, 12)
}

/// `value` × 10⁻ˢᶜᵃˡᵉ, exactly and without trailing zeros.
fn decimal(value: u128, scale: u32) -> String {
    let one = 10u128.pow(scale);
    let (whole, part) = (value / one, value % one);
    if part == 0 {
        return whole.to_string();
    }
    let digits = format!("{part:0width$}", width = scale as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// A price for one unit, in 10⁻²⁴ dollars: fine enough for any list price per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(u128);

/// 10⁻²⁴ dollars in a pico-dollar.
const RATE_PER_PICO: u128 = 1_000_000_000_000;

/// Greatest rate: a thousand dollars a token, so that no product of a rate and 10¹⁰ units overflows.
const RATE_MAX: u128 = 1_000 * 10u128.pow(24);

impl Rate {
    /// A price of nothing.
    pub const ZERO: Self = Self(0);

    /// Reads dollars for one unit: `0.00000015`, `1.5e-07`. Digits beyond 10⁻²⁴ round half up.
    pub fn per_unit(text: &str) -> Option<Self> {
        Self::scaled(text, 24)
    }

    /// Reads dollars for a million units: `0.15`.
    pub fn per_million(text: &str) -> Option<Self> {
        Self::scaled(text, 18)
    }

    /// A rate of `units` × 10⁻²⁴ dollars; the form in which a table stores it.
    pub fn from_units(units: u128) -> Option<Self> {
        (units <= RATE_MAX).then_some(Self(units))
    }

    /// The rate in 10⁻²⁴ dollars.
    pub fn units(self) -> u128 {
        self.0
    }

    /// Dollars for so many units, exactly: 0.15 for a million.
    pub fn dollars_for(self, units: u64) -> String {
        decimal(self.0.saturating_mul(u128::from(units)), 24)
    }

    fn scaled(text: &str, scale: i32) -> Option<Self> {
        let units = parse_decimal(text, scale)?;
        (units <= RATE_MAX).then_some(Self(units))
    }

    /// The price of `units`, rounded half up to whole pico-dollars. `None` if it is out of range.
    pub fn times(self, units: u64) -> Option<PicoDollars> {
        let product = self.0.checked_mul(u128::from(units))?;
        let picos = product.checked_add(RATE_PER_PICO / 2)? / RATE_PER_PICO;
        u64::try_from(picos).ok().map(PicoDollars)
    }
}

/// Reads a non-negative decimal number, exponent allowed, as an integer count of 10⁻ˢᶜᵃˡᵉ.
/// What is finer than that rounds half up.
fn parse_decimal(text: &str, scale: i32) -> Option<u128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    // The value is `digits` × 10^shift in the wanted unit.
    let shift = exponent + scale - i32::try_from(part.len()).ok()?;
    let mut value: u128 = 0;
    let mut digits = 0;
    for byte in whole.bytes().chain(part.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        digits += 1;
        if digits > 60 {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u128::from(byte - b'0'))?;
    }
    if shift >= 0 {
        if value == 0 {
            return Some(0);
        }
        return value.checked_mul(10u128.checked_pow(shift.unsigned_abs())?);
    }
    let Some(divisor) = 10u128.checked_pow(shift.unsigned_abs()) else {
        return Some(0);
    };
    let rest = value % divisor;
    Some(value / divisor + u128::from(rest >= divisor - rest))
}

fn parse_exponent(text: &str) -> Option<i32> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i32 = digits.parse().ok()?;
    Some(if negative { -value } else { value })
}

/// Reads an amount of dollars from decimal text, rounded half up to whole pico-dollars.
pub fn parse_dollars(text: &str) -> Option<PicoDollars> {
    u64::try_from(parse_decimal(text, 12)?)
        .ok()
        .map(PicoDollars)
}

/// Reads a non-negative decimal number, `8.47`, as whole thousandths, rounded half up.
pub fn parse_thousandths(text: &str) -> Option<u64> {
    u64::try_from(parse_decimal(text, 3)?).ok()
}

/// What a model costs for each token, by kind, and for what is not counted in tokens. `None` is
/// unknown; a kind of token with no price of its own falls back as its field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prices {
    /// An input token that is neither read from nor written to the prompt cache.
    pub input: Option<Rate>,
    /// An output token.
    pub output: Option<Rate>,
    /// An input token read from the prompt cache; else as `input`.
    pub cache_read: Option<Rate>,
    /// An input token written to the prompt cache; else as `input`.
    pub cache_write: Option<Rate>,
    /// One written for an hour; else as `cache_write`.
    pub cache_write_hour: Option<Rate>,
    /// A reasoning token; else as `output`.
    pub reasoning: Option<Rate>,
    /// An input token of sound; else as `input`.
    pub input_audio: Option<Rate>,
    /// An output token of sound; else as `output`.
    pub output_audio: Option<Rate>,
    /// An input token of a picture; else as `input`.
    pub input_image: Option<Rate>,
    /// A picture made, where pictures are not paid in tokens.
    pub image: Option<Rate>,
    /// A thousandth of a second of sound taken in, where sound is not paid in tokens.
    pub audio_milli: Option<Rate>,
    /// A search.
    pub search: Option<Rate>,
}

impl Prices {
    /// All prices, in the order of the fields.
    pub fn all(&self) -> [Option<Rate>; 12] {
        let Self {
            input,
            output,
            cache_read,
            cache_write,
            cache_write_hour,
            reasoning,
            input_audio,
            output_audio,
            input_image,
            image,
            audio_milli,
            search,
        } = *self;
        [
            input,
            output,
            cache_read,
            cache_write,
            cache_write_hour,
            reasoning,
            input_audio,
            output_audio,
            input_image,
            image,
            audio_milli,
            search,
        ]
    }

    /// The cost of `usage`: for each kind the product, rounded half up once, then the sum.
    /// `None` when a count or a price that is needed is unknown, or the sum out of range.
    pub fn cost(&self, usage: &Usage) -> Option<PicoDollars> {
        let by_token = self.input.is_some() || self.output.is_some();
        let by_piece = [self.image, self.audio_milli, self.search]
            .iter()
            .any(Option::is_some);
        // A model without any price is unknown even where nothing was used.
        if !by_token && !by_piece {
            return None;
        }
        let mut sum = 0u64;
        if by_token {
            sum = self.tokens_cost(usage)?.0;
        }
        if by_piece {
            sum = sum.checked_add(self.pieces_cost(usage)?.0)?;
        }
        Some(PicoDollars(sum))
    }

    /// The cost of the tokens alone.
    fn tokens_cost(&self, usage: &Usage) -> Option<PicoDollars> {
        let input = usage.input?;
        let output = usage.output?;
        let read = usage.cache_read.unwrap_or(0).min(input);
        let write = usage.cache_write.unwrap_or(0).min(input - read);
        let hour = usage.cache_write_hour.unwrap_or(0).min(write);
        let fresh = input - read - write;
        // Parts that have no price of their own stay where they are: the sum rounds once.
        let part = |rate: Option<Rate>, count: Option<u64>, of: u64| match rate {
            Some(_) => count.unwrap_or(0).min(of),
            None => 0,
        };
        let audio = part(self.input_audio, usage.input_audio, fresh);
        let image = part(self.input_image, usage.input_image, fresh - audio);
        let reasoning = part(self.reasoning, usage.reasoning, output);
        let spoken = part(self.output_audio, usage.output_audio, output - reasoning);
        let read_rate = self.cache_read.or(self.input);
        let write_rate = self.cache_write.or(self.input);
        sum_of([
            (fresh - audio - image, self.input),
            (audio, self.input_audio),
            (image, self.input_image),
            (read, read_rate),
            (write - hour, write_rate),
            (hour, self.cache_write_hour.or(write_rate)),
            (output - reasoning - spoken, self.output),
            (spoken, self.output_audio),
            (reasoning, self.reasoning),
        ])
    }

    /// The cost of what is not counted in tokens; `None` if what has a price was not counted.
    fn pieces_cost(&self, usage: &Usage) -> Option<PicoDollars> {
        let count = |rate: Option<Rate>, count: Option<u64>| match rate {
            Some(_) => count,
            None => Some(0),
        };
        sum_of([
            (count(self.image, usage.images)?, self.image),
            (
                count(self.audio_milli, usage.audio_millis)?,
                self.audio_milli,
            ),
            (count(self.search, usage.searches)?, self.search),
        ])
    }
}

/// The sum of the products, each rounded once.
fn sum_of<const N: usize>(parts: [(u64, Option<Rate>); N]) -> Option<PicoDollars> {
    let mut sum = 0u64;
    for (units, rate) in parts {
        if units > 0 {
            sum = sum.checked_add(rate?.times(units)?.0)?;
        }
    }
    Some(PicoDollars(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64) -> Usage {
        Usage {
            input: Some(input),
            output: Some(output),
            ..Usage::UNKNOWN
        }
    }

    #[test]
    fn decimal_text_becomes_exact_integers() {
        assert_eq!(Rate::per_million("0.15"), Rate::per_unit("1.5e-07"));
        assert_eq!(Rate::per_million("0.15"), Rate::per_unit("0.00000015"));
        assert_eq!(
            Rate::per_unit("1.5e-07").unwrap().times(1),
            Some(PicoDollars(150_000))
        );
        assert_eq!(
            Rate::per_unit("3E-6").unwrap().times(2),
            Some(PicoDollars(6_000_000))
        );
        assert_eq!(parse_dollars("12.5"), Some(PicoDollars(12_500_000_000_000)));
        assert_eq!(parse_dollars("0.0000000000005"), Some(PicoDollars(1)));
        assert_eq!(parse_dollars("0.00000000000049"), Some(PicoDollars(0)));
        assert_eq!(Rate::per_unit("0e9"), Some(Rate::ZERO));
    }

    #[test]
    fn rates_print_for_as_many_units_as_asked() {
        let rate = Rate::per_million("0.075").unwrap();
        assert_eq!(rate.dollars_for(1_000_000), "0.075");
        assert_eq!(rate.dollars_for(1), "0.000000075");
        assert_eq!(Rate::ZERO.dollars_for(1), "0");
    }

    #[test]
    fn text_that_is_no_amount_is_refused() {
        for text in [
            "", ".", "-1", "+1", "1e", "1e+", "1e9999", "nan", "1,5", "0x1", " 1", "1e30", "1001",
        ] {
            assert_eq!(Rate::per_unit(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_print_exactly() {
        assert_eq!(PicoDollars(0).to_string(), "0");
        assert_eq!(PicoDollars(150_000).to_string(), "0.00000015");
        assert_eq!(PicoDollars(1_000_000_000_001).to_string(), "1.000000000001");
        assert_eq!(PicoDollars(u64::MAX).to_string(), "18446744.073709551615");
    }

    #[test]
    fn the_example_of_the_contract_gives_its_sum() {
        // data-plane.md section 10: 1000 in (600 read, 200 write), 100 out.
        let prices = Prices {
            input: Rate::per_unit("0.000003"),
            output: Rate::per_unit("0.000015"),
            cache_read: Rate::per_unit("0.0000003"),
            cache_write: Rate::per_unit("0.00000375"),
            ..Prices::default()
        };
        let used = Usage {
            cache_read: Some(600),
            cache_write: Some(200),
            ..usage(1000, 100)
        };
        let expected = 200 * 3_000_000 + 600 * 300_000 + 200 * 3_750_000 + 100 * 15_000_000;
        assert_eq!(prices.cost(&used), Some(PicoDollars(expected)));
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        let priced = Prices {
            input: Rate::per_million("1"),
            ..Prices::default()
        };
        assert_eq!(priced.cost(&Usage::UNKNOWN), None);
        assert_eq!(priced.cost(&usage(10, 1)), None, "no price for output");
        assert_eq!(priced.cost(&usage(10, 0)), Some(PicoDollars(10_000_000)));
        assert_eq!(Prices::default().cost(&usage(0, 0)), None);
    }

    #[test]
    fn each_product_rounds_half_up_once() {
        let prices = Prices {
            input: Rate::per_unit("0.0000000000005"),
            output: Rate::per_unit("0.0000000000005"),
            ..Prices::default()
        };
        assert_eq!(prices.cost(&usage(1, 1)), Some(PicoDollars(2)));
        assert_eq!(prices.cost(&usage(3, 0)), Some(PicoDollars(2)));
    }

    #[test]
    fn sound_and_pictures_among_the_tokens_have_prices_of_their_own() {
        let prices = Prices {
            input: Rate::per_million("2.5"),
            output: Rate::per_million("10"),
            input_audio: Rate::per_million("40"),
            output_audio: Rate::per_million("80"),
            input_image: Rate::per_million("5"),
            ..Prices::default()
        };
        let used = Usage {
            input_audio: Some(20),
            input_image: Some(30),
            output_audio: Some(5),
            ..usage(100, 10)
        };
        let input = 50 * 2_500_000 + 20 * 40_000_000 + 30 * 5_000_000;
        let output = 5 * 10_000_000 + 5 * 80_000_000;
        assert_eq!(prices.cost(&used), Some(PicoDollars(input + output)));
        let plain = Prices {
            input: prices.input,
            output: prices.output,
            ..Prices::default()
        };
        let as_text = PicoDollars(100 * 2_500_000 + 10 * 10_000_000);
        assert_eq!(plain.cost(&used), Some(as_text));
    }

    #[test]
    fn pictures_seconds_and_searches_cost_by_the_piece() {
        let picture = Prices {
            image: Rate::per_unit("0.04"),
            ..Prices::default()
        };
        let two = Usage {
            images: Some(2),
            ..Usage::UNKNOWN
        };
        assert_eq!(picture.cost(&two), Some(PicoDollars(80_000_000_000)));
        assert_eq!(picture.cost(&Usage::UNKNOWN), None, "not counted");
        assert_eq!(picture.cost(&usage(1, 1)), None, "tokens do not tell");
        let sound = Prices {
            audio_milli: Rate::per_unit("0.0000001"),
            ..Prices::default()
        };
        let nine_seconds = Usage {
            audio_millis: Some(9_000),
            ..Usage::UNKNOWN
        };
        assert_eq!(sound.cost(&nine_seconds), Some(PicoDollars(900_000_000)));
        let search = Prices {
            search: Rate::per_unit("0.002"),
            ..Prices::default()
        };
        let one = Usage {
            searches: Some(1),
            ..Usage::UNKNOWN
        };
        assert_eq!(search.cost(&one), Some(PicoDollars(2_000_000_000)));
    }

    #[test]
    fn a_cost_out_of_range_is_unknown() {
        let prices = Prices {
            input: Rate::per_unit("1000"),
            output: Some(Rate::ZERO),
            ..Prices::default()
        };
        assert_eq!(prices.cost(&usage(u64::MAX, 0)), None);
    }
}
