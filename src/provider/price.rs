//! What models cost: the embedded table of list prices, and the operator's own on top.
//!
//! The table is text (`prices.tsv`, its header says where it comes from), read once at start. It
//! has prices by token, by class of service and by length of the input, by picture, by second of
//! sound and by search. What is paid otherwise (by size of a picture, by character) is not in it
//! and stays unpriced, which is not free. Lookup is by name, exactly or through the written rules
//! of `names`; a name is never matched by resemblance, since a wrong price is worse than none.

mod names;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use names::{Name, names_of};
use xxhash_rust::xxh3::Xxh3;

use crate::domain::money::{PicoDollars, Prices, Rate};
use crate::domain::usage::{ServiceClass, Usage};

/// The embedded table.
const TABLE: &str = include_str!("prices.tsv");

/// Rate units (10⁻²⁴ dollars) in a unit of the table (10⁻¹⁵ dollars).
const RATE_UNITS: u128 = 1_000_000_000;

/// Stands for a price that is unknown; no price is that high.
const UNKNOWN: u64 = u64::MAX;

/// One line of prices, for whoever lists or compares tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// The entry, `provider/model`.
    pub key: &'a str,
    /// The operator's own.
    pub own: bool,
    /// In which class of service.
    pub class: ServiceClass,
    /// With more input tokens than that; 0: with any number.
    pub above: u64,
    /// The prices.
    pub prices: Prices,
}

/// What [`PriceTable::lookup`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced<'a> {
    /// The entry, `provider/model`; for the record.
    pub key: &'a str,
    /// The prices at this usage.
    pub prices: Prices,
    /// The most output tokens the model can make, if the table knows it.
    pub max_output_tokens: Option<u64>,
}

/// The most that a model can cost, whatever the class of service and the length of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dearest {
    /// An input token of the dearest kind; `None` if no input has a price.
    pub input: Option<Rate>,
    /// An output token of the dearest kind; `None` if no output has a price.
    pub output: Option<Rate>,
    /// Something is paid by the piece.
    pub by_piece: bool,
    /// The prices hold in the priority class, too.
    pub priority: bool,
    /// The most output tokens the model can make, if the table knows it.
    pub max_output_tokens: Option<u64>,
}

impl Dearest {
    /// The dearest of all these prices, which hold in any class.
    pub fn of(all: impl IntoIterator<Item = Prices>) -> Self {
        let mut dearest = Self {
            input: None,
            output: None,
            by_piece: false,
            priority: true,
            max_output_tokens: None,
        };
        for prices in all {
            let [
                input,
                output,
                read,
                write,
                hour,
                reasoning,
                sound_in,
                sound_out,
                picture,
                pieces @ ..,
            ] = prices.all();
            let inputs = [input, read, write, hour, sound_in, picture];
            let outputs = [output, reasoning, sound_out];
            // `None` is less than any price.
            dearest.input = inputs.into_iter().fold(dearest.input, Option::max);
            dearest.output = outputs.into_iter().fold(dearest.output, Option::max);
            dearest.by_piece |= pieces.iter().any(Option::is_some);
        }
        dearest
    }
}

/// Where the prices of one model stand in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PricePlace(Place);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Own(usize),
    Listed(usize),
}

/// Prices of one entry or tier, in units of the table, [`UNKNOWN`] where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates([u64; 6]);

#[derive(Debug)]
struct Entry {
    key: &'static str,
    max_output_tokens: Option<u32>,
    rates: Rates,
    /// Where its tiers begin in the table's list, and how many there are.
    tiers_from: u32,
    tiers: u32,
    /// The same of its extras.
    extras_from: u32,
    extras: u32,
}

/// Prices of exchanges in a class of service with more than so many input tokens.
#[derive(Debug, Clone, Copy)]
struct Tier {
    class: ServiceClass,
    above: u64,
    rates: Rates,
}

/// A price of something that few models have a price for.
#[derive(Debug, Clone, Copy)]
struct Extra {
    kind: ExtraKind,
    units: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExtraKind {
    InputAudio,
    OutputAudio,
    InputImage,
    Image,
    AudioSecond,
    Search,
}

/// The letters of the table's last two columns.
const CLASSES: [(&str, ServiceClass); 3] = [
    ("b", ServiceClass::Batch),
    ("f", ServiceClass::Flex),
    ("p", ServiceClass::Priority),
];
const EXTRAS: [(&str, ExtraKind); 6] = [
    ("a", ExtraKind::InputAudio),
    ("A", ExtraKind::OutputAudio),
    ("p", ExtraKind::InputImage),
    ("i", ExtraKind::Image),
    ("s", ExtraKind::AudioSecond),
    ("q", ExtraKind::Search),
];

/// Prices by provider and model.
///
/// ```
/// use tidegate::domain::usage::Usage;
/// use tidegate::provider::price::PriceTable;
///
/// let used = Usage { input: Some(1000), output: Some(100), ..Usage::UNKNOWN };
/// let table = PriceTable::embedded();
/// let priced = table.lookup("openai", "gpt-4o-mini-2024-07-18", "", &used).expect("is listed");
/// assert_eq!(priced.prices.cost(&used).expect("is priced").to_string(), "0.00021");
/// assert!(table.lookup("openai", "gpt-nothing", "", &used).is_none());
/// ```
#[derive(Debug)]
pub struct PriceTable {
    /// By key, in the order of its bytes.
    entries: Vec<Entry>,
    /// Tiers of each entry, class by class, lowest first.
    tiers: Vec<Tier>,
    /// Extras of each entry.
    extras: Vec<Extra>,
    /// The operator's prices, by key in the order of its bytes.
    overrides: Vec<(Box<str>, Prices)>,
    hash: u64,
}

impl PriceTable {
    /// The list prices that this build carries.
    pub fn embedded() -> Self {
        Self::of_text(TABLE)
    }

    /// Reads a table in the form of `prices.tsv`. Lines that do not read, or are out of order, are
    /// left out.
    pub fn of_text(text: &'static str) -> Self {
        let mut table = Self {
            entries: Vec::with_capacity(text.lines().count()),
            tiers: Vec::new(),
            extras: Vec::new(),
            overrides: Vec::new(),
            hash: 0,
        };
        for line in text.lines() {
            if !line.starts_with('#') {
                table.add(line);
            }
        }
        table.hash = table.digest();
        table
    }

    /// The table with the operator's prices on top, keyed `provider/model` (`[prices]` of the
    /// file). Of equal keys the last one counts.
    #[must_use]
    pub fn with_overrides<K: Into<Box<str>>>(
        mut self,
        overrides: impl IntoIterator<Item = (K, Prices)>,
    ) -> Self {
        for (key, prices) in overrides {
            let key = key.into();
            match self
                .overrides
                .binary_search_by(|(known, _)| known.cmp(&key))
            {
                Ok(at) => {
                    if let Some(known) = self.overrides.get_mut(at) {
                        known.1 = prices;
                    }
                }
                Err(at) => self.overrides.insert(at, (key, prices)),
            }
        }
        self.hash = self.digest();
        self
    }

    /// Every line of prices: the operator's own first, then the list, both by key; of an entry its
    /// base, then its classes and tiers.
    pub fn all(&self) -> impl Iterator<Item = Listed<'_>> {
        let own = self.overrides.iter().map(|(key, prices)| Listed {
            key,
            own: true,
            class: ServiceClass::Standard,
            above: 0,
            prices: *prices,
        });
        own.chain(self.entries.iter().flat_map(|entry| {
            let listed = |class, above, prices| Listed {
                key: entry.key,
                own: false,
                class,
                above,
                prices,
            };
            let mut base = entry.rates.prices();
            for extra in slice(&self.extras, entry.extras_from, entry.extras) {
                extra.apply(&mut base);
            }
            let tiers = slice(&self.tiers, entry.tiers_from, entry.tiers).iter();
            let tiers = tiers.map(move |tier| listed(tier.class, tier.above, tier.rates.prices()));
            [listed(ServiceClass::Standard, 0, base)]
                .into_iter()
                .chain(tiers)
        }))
    }

    /// Identifies the table's content, overrides included; records keep it.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many models have list prices.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether no model has a list price.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The prices of a model for an exchange of this usage. `raw_model` is its name as the
    /// provider knows it, `normalised_model` its `provider/model` name in records.
    ///
    /// Order: an override for either name; the list price for the raw name, then for what the
    /// rules of `names` make of it; then the same for the model of the normalised name, if that
    /// belongs to this provider. One provider's prices never stand in for another's.
    pub fn lookup(
        &self,
        provider: &str,
        raw_model: &str,
        normalised_model: &str,
        usage: &Usage,
    ) -> Option<Priced<'_>> {
        let place = self.find_place(provider, raw_model, normalised_model)?;
        self.at(place, usage)
    }

    /// Where the prices of a model stand, as [`PriceTable::lookup`] finds them. Whoever asks for
    /// the same model again and again keeps it for as long as the table's hash is the same.
    pub fn find_place(
        &self,
        provider: &str,
        raw_model: &str,
        normalised_model: &str,
    ) -> Option<PricePlace> {
        let normalised = names::own_model(provider, normalised_model);
        let models = [Some(raw_model), normalised];
        let own = models
            .iter()
            .flatten()
            .find_map(|model| self.find_override(provider, &Name::plain(model)))
            .or_else(|| self.override_of_key(normalised_model));
        if let Some(at) = own {
            return Some(PricePlace(Place::Own(at)));
        }
        let at = models.iter().flatten().find_map(|model| {
            let mut names = names_of(provider, model).into_iter().flatten();
            names.find_map(|name| self.find(provider, &name))
        })?;
        Some(PricePlace(Place::Listed(at)))
    }

    /// The prices at a place, for an exchange of this usage.
    fn at(&self, place: PricePlace, usage: &Usage) -> Option<Priced<'_>> {
        match place.0 {
            Place::Own(at) => {
                let (key, prices) = self.overrides.get(at)?;
                Some(Priced {
                    key,
                    prices: *prices,
                    max_output_tokens: None,
                })
            }
            Place::Listed(at) => {
                let entry = self.entries.get(at)?;
                Some(Priced {
                    key: entry.key,
                    prices: self.prices_of(entry, usage)?,
                    max_output_tokens: entry.max_output_tokens.map(u64::from),
                })
            }
        }
    }

    /// The entry at a place, `provider/model`, and what this usage costs there. That is what the prices
    /// of [`PriceTable::lookup`] come to, without handing them out: they are large, and each exchange asks.
    /// `None` inside: a count that is needed is unknown.
    pub fn cost_at(&self, place: PricePlace, usage: &Usage) -> Option<(&str, Option<PicoDollars>)> {
        match place.0 {
            Place::Own(at) => {
                let (key, prices) = self.overrides.get(at)?;
                Some((key, prices.cost(usage)))
            }
            Place::Listed(at) => {
                let entry = self.entries.get(at)?;
                Some((entry.key, self.prices_of(entry, usage)?.cost(usage)))
            }
        }
    }

    /// The most that what stands at a place can cost.
    pub fn dearest(&self, place: PricePlace) -> Option<Dearest> {
        match place.0 {
            Place::Own(at) => {
                let (_, prices) = self.overrides.get(at)?;
                Some(Dearest::of([*prices]))
            }
            Place::Listed(at) => {
                let entry = self.entries.get(at)?;
                let mut base = entry.rates.prices();
                for extra in slice(&self.extras, entry.extras_from, entry.extras) {
                    extra.apply(&mut base);
                }
                let tiers = slice(&self.tiers, entry.tiers_from, entry.tiers).iter();
                let all = tiers.clone().map(|tier| tier.rates.prices());
                let all = all.chain([base]);
                let is_priority = |tier: &Tier| tier.class == ServiceClass::Priority;
                Some(Dearest {
                    priority: tiers.clone().any(is_priority),
                    max_output_tokens: entry.max_output_tokens.map(u64::from),
                    ..Dearest::of(all)
                })
            }
        }
    }

    fn find_override(&self, provider: &str, name: &Name<'_>) -> Option<usize> {
        self.overrides
            .binary_search_by(|(key, _)| compare(key, provider, name))
            .ok()
    }

    fn override_of_key(&self, key: &str) -> Option<usize> {
        self.overrides
            .binary_search_by(|(known, _)| (**known).cmp(key))
            .ok()
    }

    fn find(&self, provider: &str, name: &Name<'_>) -> Option<usize> {
        self.entries
            .binary_search_by(|entry| compare(entry.key, provider, name))
            .ok()
    }

    /// The prices of the class, at the highest tier that the input exceeds. An unknown input has no
    /// cost anyway; a class that the model has no price in has none.
    #[inline]
    fn prices_of(&self, entry: &Entry, usage: &Usage) -> Option<Prices> {
        let class = usage.class?;
        let base = (class == ServiceClass::Standard || flex_costs_the_same(entry.key, class))
            .then_some(entry.rates);
        let input = usage.input.unwrap_or(0);
        let tier = slice(&self.tiers, entry.tiers_from, entry.tiers)
            .iter()
            .rev()
            .find(|tier| tier.class == class && (tier.above == 0 || input > tier.above));
        let mut prices = tier.map(|tier| tier.rates).or(base)?.prices();
        for extra in slice(&self.extras, entry.extras_from, entry.extras) {
            // What is paid by kind is listed for the standard class alone.
            if class != ServiceClass::Standard && extra.kind.count(usage).unwrap_or(0) > 0 {
                return None;
            }
            extra.apply(&mut prices);
        }
        Some(prices)
    }

    /// Adds a line of the table; one that does not read is left out (a test reads them all).
    fn add(&mut self, line: &'static str) -> Option<()> {
        let mut cells = line.split('\t');
        let key = cells.next()?;
        let _mode = cells.next()?;
        let max_output_tokens = cells.next()?.parse().ok();
        let rates = Rates::read(&mut cells)?;
        let tiers_from = u32::try_from(self.tiers.len()).ok()?;
        for tier in cells.next()?.split(' ').filter(|tier| *tier != "-") {
            let mut parts = tier.split(':');
            let name = parts.next()?;
            let (class, above) = CLASSES
                .iter()
                .find_map(|(letter, class)| Some((*class, name.strip_prefix(letter)?)))
                .unwrap_or((ServiceClass::Standard, name));
            self.tiers.push(Tier {
                class,
                above: above.parse().ok()?,
                rates: Rates::read(&mut parts)?,
            });
        }
        let extras_from = u32::try_from(self.extras.len()).ok()?;
        for extra in cells.next()?.split(' ').filter(|extra| *extra != "-") {
            let (letter, units) = extra.split_once(':')?;
            let (_, kind) = EXTRAS.iter().find(|(known, _)| *known == letter)?;
            let units = units.parse().ok()?;
            self.extras.push(Extra { kind: *kind, units });
        }
        let sorted = self.entries.last().is_none_or(|last| last.key < key);
        let entry = Entry {
            key,
            max_output_tokens,
            rates,
            tiers_from,
            tiers: u32::try_from(self.tiers.len()).ok()? - tiers_from,
            extras_from,
            extras: u32::try_from(self.extras.len()).ok()? - extras_from,
        };
        sorted.then(|| self.entries.push(entry))
    }

    fn digest(&self) -> u64 {
        let mut hasher = Xxh3::new();
        hasher.update(TABLE.as_bytes());
        for (key, prices) in &self.overrides {
            hasher.update(&key.len().to_le_bytes());
            hasher.update(key.as_bytes());
            for rate in prices.all() {
                let units = rate.map_or(u128::MAX, Rate::units);
                hasher.update(&units.to_le_bytes());
            }
        }
        hasher.digest()
    }
}

impl ExtraKind {
    /// How much of it was used.
    fn count(self, usage: &Usage) -> Option<u64> {
        match self {
            Self::InputAudio => usage.input_audio,
            Self::OutputAudio => usage.output_audio,
            Self::InputImage => usage.input_image,
            Self::Image => usage.images,
            Self::AudioSecond => usage.audio_millis,
            Self::Search => usage.searches,
        }
    }
}

impl Extra {
    fn apply(self, prices: &mut Prices) {
        let whole = u128::from(self.units) * RATE_UNITS;
        let (rate, units) = match self.kind {
            ExtraKind::InputAudio => (&mut prices.input_audio, whole),
            ExtraKind::OutputAudio => (&mut prices.output_audio, whole),
            ExtraKind::InputImage => (&mut prices.input_image, whole),
            ExtraKind::Image => (&mut prices.image, whole),
            // The table has seconds; a thousandth of its unit is still whole.
            ExtraKind::AudioSecond => (&mut prices.audio_milli, whole / 1_000),
            ExtraKind::Search => (&mut prices.search, whole),
        };
        *rate = Rate::from_units(units);
    }
}

/// Groq's flex class differs in its limits alone (its documentation of service tiers).
fn flex_costs_the_same(key: &str, class: ServiceClass) -> bool {
    class == ServiceClass::Flex && key.starts_with("groq/")
}

fn slice<T>(list: &[T], from: u32, count: u32) -> &[T] {
    let from = from as usize;
    list.get(from..from + count as usize).unwrap_or_default()
}

impl Rates {
    fn read<'a>(cells: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut rates = [UNKNOWN; 6];
        for rate in &mut rates {
            let cell = cells.next()?;
            if cell != "-" {
                *rate = cell.parse().ok()?;
            }
        }
        Some(Self(rates))
    }

    fn prices(self) -> Prices {
        let [
            input,
            output,
            cache_read,
            cache_write,
            cache_write_hour,
            reasoning,
        ] = self.0.map(|units| {
            let units = (units != UNKNOWN).then_some(u128::from(units))?;
            Rate::from_units(units * RATE_UNITS)
        });
        Prices {
            input,
            output,
            cache_read,
            cache_write,
            cache_write_hour,
            reasoning,
            ..Prices::default()
        }
    }
}

/// Compares a key with `provider/name` by bytes, without making that text.
fn compare(key: &str, provider: &str, name: &Name<'_>) -> Ordering {
    let parts = [provider, "/", name.prefix, name.stem, name.suffix];
    key.bytes().cmp(parts.into_iter().flat_map(str::bytes))
}
