//! `[[tokens]]`: who may call, what they may do and spend.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;

use crate::config::environment::{TOKEN_BYTES_GOOD, is_weak};
use crate::config::file;
use crate::config::limit;
use crate::config::redact::shown;
use crate::config::secret;
use crate::config::{Budget, Period, Permissions, Token};

use super::Checker;
use super::field::{flag, span};

impl Checker<'_, '_> {
    pub(super) fn tokens(&mut self, items: &[Spanned<file::Token>]) -> Vec<Token> {
        let mut tokens: Vec<Token> = Vec::new();
        // By digest: comparing each with each would take minutes for thousands.
        let mut names = BTreeSet::new();
        let mut secrets = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if index >= limit::TOKENS_MAX {
                let message = format!("more than {} tokens", limit::TOKENS_MAX);
                self.problem(
                    item.span(),
                    &message,
                    "make them with `tidegate keys create`",
                );
                break;
            }
            let Some(token) = self.token(item) else {
                continue;
            };
            let file = item.get_ref();
            let name_span = span(&file.name).unwrap_or_else(|| item.span());
            let token_span = span(&file.token).unwrap_or_else(|| item.span());
            if !names.insert(token.name.clone()) {
                self.problem(name_span, "another token has this name", "");
                continue;
            }
            let digest = *blake3::hash(token.secret.expose().as_bytes()).as_bytes();
            if let Some(other) = secrets.insert(digest, token.name.clone()) {
                let message = format!("this is the same secret as that of {}", shown(&other));
                self.problem(token_span, &message, "give each token a secret of its own");
                continue;
            }
            if is_weak(&token.secret) {
                let message = format!("the token is shorter than {TOKEN_BYTES_GOOD} characters");
                self.report
                    .warn(token_span, message, "a long random one is safer".to_owned());
            }
            tokens.push(token);
        }
        tokens
    }

    fn token(&mut self, item: &Spanned<file::Token>) -> Option<Token> {
        let file = item.get_ref();
        let name = match &file.name {
            Some(name) => self.name(name),
            None => self.missing(item.span(), "name", "records show it; write name = \"app\""),
        };
        let secret = match &file.token {
            Some(field) => self.secret(field, secret::token),
            None => self.missing(item.span(), "token", "write token = \"env:APP_TOKEN\""),
        };
        let permissions = match &file.permissions {
            Some(list) => self.permissions(list),
            None => Some(Permissions::RUN),
        };
        let budget = match &file.budget {
            Some(budget) => Some(self.budget(budget)?),
            None => None,
        };
        let (secret, source) = secret?;
        Some(Token {
            name: name?,
            secret,
            source,
            permissions: permissions?,
            budget,
        })
    }

    fn permissions(&mut self, list: &Spanned<Vec<Spanned<String>>>) -> Option<Permissions> {
        let mut all = Permissions::NONE;
        if list.get_ref().is_empty() {
            self.problem(
                list.span(),
                "a token without permissions can do nothing",
                "write [\"run\"], and \"read\" or \"edit\" for management",
            );
            return None;
        }
        let mut complete = true;
        for item in list.get_ref() {
            match self.one_word(item, &Permissions::WORDS) {
                Some(permission) => all = all.with(permission),
                None => complete = false,
            }
        }
        complete.then_some(all)
    }

    fn budget(&mut self, budget: &Spanned<file::Budget>) -> Option<Budget> {
        const PERIODS: [(&str, Period); 4] = [
            ("hourly", Period::Hourly),
            ("daily", Period::Daily),
            ("weekly", Period::Weekly),
            ("monthly", Period::Monthly),
        ];
        let file = budget.get_ref();
        let limit = match &file.limit {
            Some(limit) => self.dollars(limit),
            None => self.missing(budget.span(), "limit", "write dollars: limit = \"50\""),
        };
        let period = match &file.period {
            Some(period) => self.one_word(period, &PERIODS),
            None => self.missing(budget.span(), "period", "write period = \"monthly\""),
        };
        let time_zone = match &file.time_zone {
            Some(zone) => self.time_zone(zone),
            None => Some("UTC".to_owned()),
        };
        Some(Budget {
            limit: limit?,
            period: period?,
            time_zone: time_zone?,
            hard: flag(&file.hard, false),
            allow_unpriced: flag(&file.allow_unpriced, false),
        })
    }

    fn time_zone(&mut self, field: &Spanned<String>) -> Option<String> {
        let zone = field.get_ref();
        let fits = (1..=64).contains(&zone.len())
            && zone.split('/').all(|part| !part.is_empty())
            && zone
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'));
        if fits {
            return Some(zone.clone());
        }
        self.problem(
            field.span(),
            "this cannot be a time zone",
            "write \"UTC\" or a name such as \"Europe/Vienna\"",
        );
        None
    }
}
