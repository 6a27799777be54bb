use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    config::gateway::{
        Dimension, Gateway, LimitBy, SpendLimits, SpendRule, Technique, TrafficLimit,
    },
    domain::money::PicoDollars,
};

const FACTS: Facts<'static> = Facts {
    key: Some("app"),
    metadata: br#"{"user":"ann","age":7}"#,
    provider: "openai",
    model: "gpt-4o-mini-2024-07-18",
    model_name: "openai/gpt-4o-mini",
    tokens: TokenGuess {
        least: 40,
        most: 50,
    },
    bound: CostBound::AtMost(900),
    unix_micros: 1_795_000_000_000_000,
};

fn spend(id: &str) -> SpendRule {
    SpendRule {
        id: id.to_owned(),
        enabled: true,
        limit: PicoDollars(1_000),
        window: Duration::from_mins(1),
        technique: Technique::Sliding,
        metadata: BTreeMap::new(),
        model: None,
        provider: None,
        hard: false,
        allow_unpriced: false,
    }
}

fn traffic(limit: u64, by: LimitBy) -> TrafficLimit {
    TrafficLimit {
        limit,
        window: Duration::from_mins(1),
        technique: Technique::Fixed,
        by,
    }
}

fn spending(rules: Vec<SpendRule>) -> Rules {
    Rules::of_gateway(&Gateway {
        spend_limits: SpendLimits {
            enabled: true,
            rules,
        },
        ..Gateway::default()
    })
}

#[track_caller]
fn claims(rules: &Rules, facts: &Facts<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    rules
        .claim(
            Scope::Gateway("g"),
            facts,
            &mut Names::default(),
            &mut claims,
        )
        .unwrap();
    claims
}

fn keys(rules: &Rules, facts: &Facts<'_>) -> Vec<CounterKey> {
    claims(rules, facts).iter().map(|claim| claim.key).collect()
}

fn filter(values: &[&str]) -> Dimension {
    Dimension::Filter(values.iter().map(|value| (*value).to_owned()).collect())
}

#[test]
fn claims_come_in_the_order_of_the_checks_with_their_amounts() {
    let rules = Rules::of_gateway(&Gateway {
        rate_limiting_limit: 10,
        rate_limiting_interval: Duration::from_mins(1),
        request_limits: vec![traffic(5, LimitBy::Key)],
        token_limits: vec![traffic(100, LimitBy::Gateway)],
        spend_limits: SpendLimits {
            enabled: true,
            rules: vec![
                SpendRule {
                    hard: true,
                    ..spend("hard")
                },
                spend("soft"),
                SpendRule {
                    enabled: false,
                    ..spend("off")
                },
                SpendRule {
                    window: Duration::ZERO,
                    ..spend("never")
                },
            ],
        },
        ..Gateway::default()
    });
    assert!(rules.counts_tokens() && rules.has_hard());
    let found: Vec<_> = claims(&rules, &FACTS)
        .iter()
        .map(|claim| (claim.measure, claim.limit, claim.amount, claim.hard))
        .collect();
    assert_eq!(
        found,
        [
            (Measure::Requests, 10, 1, false),
            (Measure::Requests, 5, 1, false),
            (Measure::Tokens, 100, 50, false),
            (Measure::Cost, 1_000, 900, true),
            (Measure::Cost, 1_000, 0, false),
        ]
    );
    let least: Vec<_> = claims(&rules, &FACTS)
        .iter()
        .map(|claim| claim.least)
        .collect();
    assert_eq!(least, [1, 1, 40, 900, 0]);
    assert_eq!(&*rules.rule(3).unwrap().id, "hard");
    assert!(Rules::of_gateway(&Gateway::default()).is_empty());
}

#[test]
fn counters_survive_a_change_of_the_limit_and_of_other_rules() {
    let before = spending(vec![spend("a"), spend("b")]);
    let after = spending(vec![
        SpendRule {
            limit: PicoDollars(5),
            hard: true,
            technique: Technique::Fixed,
            ..spend("b")
        },
        spend("c"),
    ]);
    let (before, after) = (keys(&before, &FACTS), keys(&after, &FACTS));
    assert_eq!(before[1], after[0]);
    assert!(!before.contains(&after[1]));

    let limits = |limits: Vec<TrafficLimit>| {
        Rules::of_gateway(&Gateway {
            request_limits: limits,
            ..Gateway::default()
        })
    };
    let before = limits(vec![
        traffic(1, LimitBy::Gateway),
        traffic(2, LimitBy::Key),
        traffic(3, LimitBy::Key),
    ]);
    let after = limits(vec![traffic(9, LimitBy::Key), traffic(3, LimitBy::Key)]);
    let (before, after) = (keys(&before, &FACTS), keys(&after, &FACTS));
    assert_eq!(before[1..], after);
    assert_ne!(after[0], after[1]);
}

#[test]
fn each_gateway_and_each_key_has_counters_of_its_own() {
    let rules = Rules::of_gateway(&Gateway {
        request_limits: vec![traffic(1, LimitBy::Key)],
        ..Gateway::default()
    });
    let key = |scope, key| {
        let mut claims = Vec::new();
        let facts = Facts { key, ..FACTS };
        rules
            .claim(scope, &facts, &mut Names::default(), &mut claims)
            .unwrap();
        claims[0].key
    };
    let first = key(Scope::Gateway("g"), Some("app"));
    assert_ne!(first, key(Scope::Gateway("h"), Some("app")));
    let second = key(Scope::Gateway("g"), Some("other"));
    assert_ne!(first, second);
    assert_eq!(first.owner, second.owner, "they live together");
    // Whoever shows no token shares one counter with all who show none.
    let open = key(Scope::Gateway("g"), None);
    assert_ne!(open, first);
    assert_eq!(open, key(Scope::Gateway("g"), None));
    assert_ne!(key(Scope::Key("g"), None).owner, open.owner);
}

#[test]
fn metadata_splits_and_chooses() {
    let rule = |name: &str, dimension: Dimension| SpendRule {
        metadata: BTreeMap::from([(name.to_owned(), dimension)]),
        ..spend(name)
    };
    let facts = |metadata: &'static str| Facts {
        metadata: metadata.as_bytes(),
        ..FACTS
    };
    let by_user = spending(vec![rule("user", Dimension::Partition)]);
    let ann = keys(&by_user, &facts(r#"{"user":"ann"}"#));
    assert_eq!(ann.len(), 1);
    assert_eq!(ann, keys(&by_user, &facts(r#"{"age":1,"user":"ann"}"#)));
    assert_ne!(ann, keys(&by_user, &facts(r#"{"user":"bob"}"#)));
    for lacking in ["", "{}", r#"{"User":"ann"}"#, r#"{"user":null}"#, "[", "7"] {
        assert_eq!(keys(&by_user, &facts(lacking)), [], "{lacking}");
    }
    let only = spending(vec![rule("age", filter(&["7", "true"]))]);
    let seven = keys(&only, &facts(r#"{"age":7}"#));
    assert_eq!(seven, keys(&only, &facts(r#"{"age":true}"#)), "one counter");
    assert_eq!(seven, keys(&only, &facts(r#"{"age":"7"}"#)));
    assert_eq!(keys(&only, &facts(r#"{"age":8}"#)), []);
}

#[test]
fn values_that_split_cannot_be_moved_between_dimensions() {
    let rules = spending(vec![SpendRule {
        metadata: ["a", "b"]
            .map(|name| (name.to_owned(), Dimension::Partition))
            .into(),
        ..spend("r")
    }]);
    let key = |metadata: &'static str| {
        keys(
            &rules,
            &Facts {
                metadata: metadata.as_bytes(),
                ..FACTS
            },
        )
    };
    assert_ne!(key(r#"{"a":"xy","b":"z"}"#), key(r#"{"a":"x","b":"yz"}"#));
}

#[test]
fn a_model_is_met_under_each_of_its_names() {
    let rule = |values: &[&str]| {
        spending(vec![SpendRule {
            model: Some(filter(values)),
            provider: Some(filter(&["openai"])),
            ..spend("r")
        }])
    };
    for name in [
        "gpt-4o-mini-2024-07-18",
        "gpt-4o-mini",
        "openai/gpt-4o-mini",
    ] {
        assert_eq!(keys(&rule(&["x", name]), &FACTS).len(), 1, "{name}");
    }
    assert_eq!(keys(&rule(&["gpt-4o"]), &FACTS), []);
    let other = Facts {
        provider: "azure-openai",
        ..FACTS
    };
    assert_eq!(keys(&rule(&["gpt-4o-mini"]), &other), []);
    let apart = spending(vec![SpendRule {
        model: Some(Dimension::Partition),
        ..spend("r")
    }]);
    let alias = Facts {
        model: "gpt-4o-mini",
        ..FACTS
    };
    assert_eq!(keys(&apart, &FACTS), keys(&apart, &alias));
}

#[test]
fn a_hard_rule_refuses_what_has_no_bound() {
    let hard = |allow_unpriced| {
        spending(vec![
            spend("soft"),
            SpendRule {
                hard: true,
                allow_unpriced,
                ..spend("hard")
            },
        ])
    };
    let claim = |rules: &Rules, facts: &Facts<'_>| {
        let mut claims = Vec::new();
        rules
            .claim(
                Scope::Gateway("g"),
                facts,
                &mut Names::default(),
                &mut claims,
            )
            .map(|()| claims.iter().map(|claim| claim.amount).collect::<Vec<_>>())
    };
    let facts = |bound| Facts { bound, ..FACTS };
    let refused = |unpriced| Err(NoBound { rule: 1, unpriced });
    assert_eq!(
        claim(&hard(false), &facts(CostBound::AtMost(7))),
        Ok(vec![0, 7])
    );
    assert_eq!(
        claim(&hard(false), &facts(CostBound::Unpriced)),
        refused(true)
    );
    assert_eq!(
        claim(&hard(true), &facts(CostBound::Unpriced)),
        Ok(vec![0, 0])
    );
    assert_eq!(
        claim(&hard(true), &facts(CostBound::Unbounded)),
        refused(false)
    );

    // A rule about models cannot tell whether it is about a request that names none.
    let rules = |hard| {
        spending(vec![SpendRule {
            hard,
            model: Some(Dimension::Partition),
            ..spend("r")
        }])
    };
    let nameless = Facts {
        model: "",
        model_name: "",
        ..FACTS
    };
    assert_eq!(claim(&rules(false), &nameless), Ok(vec![]));
    let refused = Err(NoBound {
        rule: 0,
        unpriced: false,
    });
    assert_eq!(claim(&rules(true), &nameless), refused);
    let free = Facts {
        bound: CostBound::AtMost(0),
        ..nameless
    };
    assert_eq!(claim(&rules(true), &free), Ok(vec![]));
}

#[test]
fn owners_spread_over_all_shards() {
    for shards in [1, 2, 4, 7] {
        let mut seen = vec![0; shards];
        for number in 0..1_000 {
            let owner = owner(Scope::Gateway(&format!("gateway-{number}")));
            let key = CounterKey { owner, id: [0; 16] };
            seen[key.shard(shards)] += 1;
        }
        assert!(seen.iter().all(|count| *count > 500 / shards), "{seen:?}");
    }
}

#[test]
fn a_refusal_says_which_limit_it_was() {
    let rules = Rules::of_gateway(&Gateway {
        request_limits: vec![traffic(5, LimitBy::Key)],
        spend_limits: SpendLimits {
            enabled: true,
            rules: vec![SpendRule {
                limit: PicoDollars(20_500_000_000_000),
                ..spend("day")
            }],
        },
        ..Gateway::default()
    });
    let texts = [0, 1].map(|place| rules.rule(place).unwrap().to_string());
    assert_eq!(
        texts,
        [
            "request limit 5 per 60s, fixed",
            "cost limit 20.5 per 60s, sliding"
        ]
    );
    let message = |model| rules.rule(1).unwrap().spend_message("openai", model);
    let start = "Spend limit exceeded: rule 'day' (cost limit 20.5 per 60s, sliding) for openai";
    assert_eq!(message("gpt-4o"), format!("{start} gpt-4o"));
    assert_eq!(message(""), start);
}

#[test]
fn budgets_are_compiled_by_the_names_of_their_tokens() {
    use crate::{
        config::{
            Budget, Period, Permissions, Token,
            secret::{Reference, Secret},
        },
        snapshot::CompileError,
    };

    let token = |name: &str, time_zone: &str| Token {
        name: name.to_owned(),
        secret: Secret::new(name.to_owned()),
        source: Reference::Env(name.to_owned()),
        permissions: Permissions::RUN,
        budget: Some(Budget {
            limit: PicoDollars(7),
            period: Period::Monthly,
            time_zone: time_zone.to_owned(),
            hard: true,
            allow_unpriced: false,
        }),
    };
    let free = Token {
        budget: None,
        ..token("free", "UTC")
    };
    let budgets = Rules::of_budgets(&[token("app", "Europe/Vienna"), free]).unwrap();
    assert_eq!(budgets.len(), 1);
    let mut claims = Vec::new();
    let scope = Scope::Key("app");
    budgets["app"]
        .claim(scope, &FACTS, &mut Names::default(), &mut claims)
        .unwrap();
    assert_eq!((claims[0].limit, claims[0].amount), (7, 900));
    assert!(matches!(claims[0].span, Span::Calendar(_)));
    assert_eq!(
        budgets["app"].rule(0).unwrap().to_string(),
        "cost limit 0.000000000007 per month"
    );
    let mut soft = token("soft", "UTC");
    soft.budget = soft.budget.map(|budget| Budget {
        hard: false,
        ..budget
    });
    // Its period goes with the clock.
    assert!(!Rules::of_budgets(&[soft]).unwrap()["soft"].follows_head());
    let error = Rules::of_budgets(&[token("app", "Middle/Earth")]).unwrap_err();
    let zone = CompileError::TimeZone {
        token: "app".into(),
        zone: "Middle/Earth".into(),
    };
    assert_eq!(error, zone);
}

/// What is kept of a head's claims must be what every request with that head claims.
#[test]
fn claims_that_follow_the_head_do_not_follow_the_body_or_the_clock() {
    let gateway = |rules: Vec<SpendRule>, tokens: Vec<TrafficLimit>| Gateway {
        rate_limiting_limit: 10,
        rate_limiting_interval: Duration::from_mins(1),
        request_limits: vec![
            traffic(5, LimitBy::Key),
            traffic(7, LimitBy::Metadata("user".to_owned())),
        ],
        token_limits: tokens,
        spend_limits: SpendLimits {
            enabled: true,
            rules,
        },
        ..Gateway::default()
    };
    let by_provider = SpendRule {
        provider: Some(filter(&["openai"])),
        ..spend("provider")
    };
    let rules = Rules::of_gateway(&gateway(vec![spend("all"), by_provider], Vec::new()));
    assert!(rules.follows_head());
    let other = Facts {
        model: "o3",
        model_name: "openai/o3",
        tokens: TokenGuess::default(),
        bound: CostBound::Unbounded,
        unix_micros: FACTS.unix_micros + 86_400_000_000,
        ..FACTS
    };
    assert_eq!(claims(&rules, &FACTS).len(), 5);
    assert_eq!(claims(&rules, &FACTS), claims(&rules, &other));
    let by_model = SpendRule {
        model: Some(filter(&["gpt-4o-mini"])),
        ..spend("model")
    };
    let hard = SpendRule {
        hard: true,
        ..spend("hard")
    };
    for (rules, tokens) in [
        (vec![by_model], Vec::new()),
        (vec![hard], Vec::new()),
        (Vec::new(), vec![traffic(100, LimitBy::Gateway)]),
    ] {
        assert!(!Rules::of_gateway(&gateway(rules, tokens)).follows_head());
    }
}
