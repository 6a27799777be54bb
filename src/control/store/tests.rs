use serde_json::{Map, json};

use super::{
    audit::{Entry, Wanted},
    objects::{Kind, Object},
    vault::{Vault, VaultError},
    *,
};
use crate::config::secret::Secret;

fn object(parent: &str, id: &str, name: &str) -> Object {
    Object {
        parent: parent.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        document: Map::from_iter([("a".to_owned(), json!("b"))]),
        sealed: None,
        created_at: 1,
        modified_at: 1,
    }
}

fn insert(store: &mut Store, kind: Kind, object: &Object) -> bool {
    store
        .change(|connection| Ok::<_, StoreError>(objects::insert(connection, kind, object)?))
        .unwrap()
}

fn ids(store: &Store, kind: Kind, parent: &str) -> Vec<String> {
    let all = store.read(|connection| objects::list(connection, kind, parent));
    all.unwrap().into_iter().map(|object| object.id).collect()
}

#[test]
fn objects_come_back_in_the_order_in_which_they_were_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for id in ["z", "a", "m"] {
        assert!(insert(&mut store, Kind::Gateway, &object("", id, id)));
    }
    assert!(!insert(
        &mut store,
        Kind::Gateway,
        &object("", "a", "other")
    ));
    assert!(!insert(
        &mut store,
        Kind::Gateway,
        &object("", "other", "a")
    ));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(ids(&store, Kind::Gateway, ""), ["z", "a", "m"]);
    let found = store.read(|connection| objects::get(connection, Kind::Gateway, "", "m"));
    assert_eq!(found.unwrap(), Some(object("", "m", "m")));
}

#[test]
fn a_gateway_takes_with_it_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for gateway in ["one", "two"] {
        let route = format!("route-of-{gateway}");
        insert(&mut store, Kind::Gateway, &object("", gateway, gateway));
        insert(&mut store, Kind::Route, &object(gateway, &route, "r"));
        insert(&mut store, Kind::RouteVersion, &object(&route, "v", "v"));
        insert(&mut store, Kind::Dataset, &object(gateway, "d", "d"));
    }
    let delete = |connection: &Connection| {
        objects::delete(connection, Kind::Gateway, "", "one")?;
        Ok::<_, StoreError>(())
    };
    store.change(delete).unwrap();
    assert_eq!(ids(&store, Kind::Gateway, ""), ["two"]);
    assert!(ids(&store, Kind::Route, "one").is_empty());
    assert!(ids(&store, Kind::RouteVersion, "route-of-one").is_empty());
    assert!(ids(&store, Kind::Dataset, "one").is_empty());
    assert_eq!(ids(&store, Kind::RouteVersion, "route-of-two"), ["v"]);
    assert_eq!(ids(&store, Kind::Dataset, "two"), ["d"]);
}

#[test]
fn a_change_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let before = store.revision().unwrap();
    let failed = store.change(|connection| {
        objects::insert(connection, Kind::Gateway, &object("", "a", "a"))?;
        Err::<(), _>(StoreError::Damaged("x".into()))
    });
    assert!(failed.is_err());
    assert!(ids(&store, Kind::Gateway, "").is_empty());
    assert_eq!(store.revision().unwrap(), before);
}

#[test]
fn the_revision_rises_with_what_shards_are_told_and_with_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let before = store.revision().unwrap();
    insert(&mut store, Kind::Dataset, &object("g", "d", "d"));
    assert_eq!(store.revision().unwrap(), before);
    insert(&mut store, Kind::Gateway, &object("", "g", "g"));
    assert_eq!(store.revision().unwrap(), before + 1);
}

#[test]
fn audit_entries_are_found_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    for number in 0..5 {
        let entry = Entry {
            id: format!("e{number}"),
            at: number,
            action: if number % 2 == 0 { "even" } else { "odd" }.to_owned(),
            resource_type: "t".to_owned(),
            resource_id: "r".to_owned(),
            actor: "app".to_owned(),
            old: None,
            new: Some("{}".to_owned()),
        };
        store
            .change(|connection| Ok::<_, StoreError>(audit::add(connection, &entry)?))
            .unwrap();
    }
    let check = |wanted: &Wanted, offset: u64, limit: u64, expected: &[&str], total: u64| {
        let page = |connection: &Connection| audit::page(connection, wanted, offset, limit);
        let (entries, count) = store.read(page).unwrap();
        let found: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!((found.as_slice(), count), (expected, total));
    };
    let all = Wanted::default();
    check(&all, 0, 2, &["e4", "e3"], 5);
    check(&all, 4, 2, &["e0"], 5);
    check(&all, 9, 2, &[], 5);
    let even = Wanted {
        action: Some("even".to_owned()),
        since: Some(1),
        ascending: true,
        ..Wanted::default()
    };
    check(&even, 0, 9, &["e2", "e4"], 2);
}

#[test]
fn a_master_key_that_did_not_seal_the_secrets_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let vault = |text: &str| Vault::new(&Secret::new(text.to_owned()));
    let check = |store: &mut Store, key: &str| store.change(|c| vault(key).check(c));
    check(&mut store, "first").unwrap();
    // No secret was sealed under the first one.
    check(&mut store, "second").unwrap();
    let sealed = Object {
        sealed: Some(vault("second").seal("p", "s").unwrap()),
        ..object("g", "p", "p")
    };
    insert(&mut store, Kind::ProviderConfig, &sealed);
    check(&mut store, "second").unwrap();
    let refused = check(&mut store, "third");
    assert!(matches!(refused, Err(VaultError::WrongKey)));
}
