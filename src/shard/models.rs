//! What a shard remembers of the models that it has seen: their names in records, and where
//! their prices stand. Working that out takes longer than everything else about a price.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use crate::provider::{
    model,
    price::{PricePlace, PriceTable},
};

/// Models remembered; callers can make up any number, so beyond this all are forgotten.
const MODELS_MAX: usize = 1024;

/// A model as a shard knows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    slug: Box<str>,
    raw: Box<[u8]>,
    /// Normalised `provider/model`; empty if the request named none.
    pub name: Box<str>,
    /// Where its prices stand, if it has any.
    pub price: Option<PricePlace>,
}

/// The models that a shard has seen.
#[derive(Debug, Default)]
pub struct Models {
    inner: RefCell<Inner>,
}

/// Provider slug, and the model as the provider knows it.
type Name = (Box<str>, Box<[u8]>);

#[derive(Debug, Default)]
struct Inner {
    table: u64,
    last: Option<Rc<Known>>,
    known: HashMap<Name, Rc<Known>>,
}

impl Models {
    /// The model that `provider` knows as `raw`, priced by `prices`.
    pub fn find(&self, prices: &PriceTable, provider: &str, raw: &[u8]) -> Rc<Known> {
        let mut inner = self.inner.borrow_mut();
        if inner.table != prices.hash() || inner.known.len() >= MODELS_MAX {
            *inner = Inner {
                table: prices.hash(),
                ..Inner::default()
            };
        }
        // Most callers use one model: the last one is found without a hash.
        if let Some(last) = &inner.last
            && *last.slug == *provider
            && *last.raw == *raw
        {
            return Rc::clone(last);
        }
        let key = (provider.into(), raw.into());
        let known = inner.known.entry(key).or_insert_with(|| {
            let text = String::from_utf8_lossy(raw);
            let mut name = String::new();
            if !text.is_empty() {
                model::normalise(provider, &text, &mut name);
            }
            Rc::new(Known {
                slug: provider.into(),
                raw: raw.into(),
                price: prices.find_place(provider, &text, &name),
                name: name.into(),
            })
        });
        let known = Rc::clone(known);
        inner.last = Some(Rc::clone(&known));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_worked_out_once() {
        let (models, prices) = (Models::default(), PriceTable::embedded());
        let first = models.find(&prices, "openai", b"gpt-4o-mini-2024-07-18");
        assert_eq!(&*first.name, "openai/gpt-4o-mini");
        assert!(first.price.is_some());
        let other = models.find(&prices, "groq", b"gpt-4o-mini-2024-07-18");
        assert!(other.price.is_none());
        let again = models.find(&prices, "openai", b"gpt-4o-mini-2024-07-18");
        assert!(Rc::ptr_eq(&first, &again));
    }

    #[test]
    fn made_up_models_do_not_grow_the_memory() {
        let (models, prices) = (Models::default(), PriceTable::embedded());
        for number in 0..MODELS_MAX * 2 {
            models.find(&prices, "openai", format!("m{number}").as_bytes());
        }
        assert!(models.inner.borrow().known.len() <= MODELS_MAX);
    }
}
