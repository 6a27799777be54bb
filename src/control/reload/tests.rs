use std::sync::Mutex;

use crossbeam_channel::unbounded;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::*;
use crate::{
    config::{Budget, Token, gateway::Gateway, secret::Reference},
    control::{
        keys::NewKey,
        store::{
            Store,
            objects::{self, Kind, Object},
        },
    },
    handoff::mailbox::ApiAnswer,
};

const NOW: UnixSeconds = 1_000_000;

/// A keeper whose file is a value, whose shards' mail the test takes.
struct Bench {
    dir: tempfile::TempDir,
    keeper: Keeper,
    file: Arc<Mutex<Option<Config>>>,
    shards: Vec<Letterbox<Order>>,
    worn: Sender<Arc<Snapshot>>,
    standing: Arc<Standing>,
}

fn token(name: &str, secret: &str) -> Token {
    Token {
        name: name.to_owned(),
        secret: Secret::new(secret.to_owned()),
        source: Reference::Env("X".to_owned()),
        permissions: Permissions::RUN,
        budget: None::<Budget>,
    }
}

fn vault() -> Vault {
    Vault::new(&Secret::new("a master key".to_owned()))
}

fn parts(config: &Config, dir: &Path) -> (ReloadParts, Ends) {
    let file = Arc::new(Mutex::new(Some(config.clone())));
    let read = Arc::clone(&file);
    let (posts, shards) = (0..2).map(|_| letterbox().unwrap()).unzip();
    let (worn, worn_out) = unbounded();
    let standing = Arc::new(Standing::new(config));
    let keys = KeyStore::open(dir).unwrap();
    let seen = keys.load(NOW).unwrap().seen;
    let parts = ReloadParts {
        read: Some(Box::new(move || {
            let config = read.lock().unwrap().clone();
            let config = config.ok_or_else(|| Problems(Vec::new()))?;
            Ok(Loaded {
                config,
                warnings: Vec::new(),
            })
        })),
        config: config.clone(),
        api_token: Secret::new("management".to_owned()),
        keys,
        seen,
        vault: vault(),
        memory: Memory::default(),
        table_secret: [3; 32],
        shards: posts,
        worn: worn_out,
        standing: Arc::clone(&standing),
        row_limits: Arc::default(),
        retained: Arc::default(),
    };
    (
        parts,
        Ends {
            file,
            shards,
            worn,
            standing,
        },
    )
}

/// The test's ends of the parts.
struct Ends {
    file: Arc<Mutex<Option<Config>>>,
    shards: Vec<Letterbox<Order>>,
    worn: Sender<Arc<Snapshot>>,
    standing: Arc<Standing>,
}

fn bench(config: &Config) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let (parts, ends) = parts(config, dir.path());
    let keeper = Keeper::new(parts);
    let Ends {
        file,
        shards,
        worn,
        standing,
    } = ends;
    Bench {
        dir,
        keeper,
        file,
        shards,
        worn,
        standing,
    }
}

impl Bench {
    fn set(&self, config: Option<Config>) {
        *self.file.lock().unwrap() = config;
    }

    /// The snapshot that every shard was sent, if they were sent one.
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut sent = self.shards.iter().map(|shard| match shard.take() {
            Some(Order::Snapshot(snapshot)) => Some(snapshot),
            None => None,
            Some(_) => panic!("another order"),
        });
        let first = sent.next().unwrap();
        assert!(sent.all(|other| other.is_some() == first.is_some()));
        first
    }

    fn certificate(&self) -> bool {
        match self.shards[0].take() {
            Some(Order::Certificate(_)) => true,
            None => false,
            Some(_) => panic!("another order"),
        }
    }
}

fn finds(snapshot: &Snapshot, token: &str) -> bool {
    snapshot.keys.find(token.as_bytes()).is_some()
}

#[test]
fn a_snapshot_has_the_tokens_from_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys = KeyStore::open(dir.path()).unwrap();
    let new = NewKey {
        name: "made",
        permissions: Permissions::READ,
        expires_at: Some(NOW + 60),
    };
    let (_, made) = keys.create(&new, NOW).unwrap();
    let config = Config {
        tokens: vec![token("app", "of-the-file")],
        ..Config::default()
    };
    let api = Secret::new("management".to_owned());
    let compiled = compile(
        &config,
        &api,
        &keys,
        &vault(),
        [0; 32],
        NOW,
        &mut Memory::default(),
    )
    .unwrap();
    let find = |token: &str| {
        let key = compiled.snapshot.keys.find(token.as_bytes()).unwrap();
        (&*key.name, key.run, key.read, key.edit)
    };
    assert_eq!(find("management"), ("api", true, true, true));
    assert_eq!(find("of-the-file"), ("app", true, false, false));
    assert_eq!(find(made.expose()), ("made", false, true, false));
    assert_eq!(compiled.seen.next_expiry, Some(NOW + 60));
}

#[test]
fn a_reload_publishes_the_new_file_to_every_shard() {
    let mut bench = bench(&Config::default());
    bench.set(Some(Config {
        tokens: vec![token("app", "fresh")],
        account_id: Some("acme".to_owned()),
        ..Config::default()
    }));
    bench.keeper.reload(NOW);
    let snapshot = bench.snapshot().unwrap();
    assert!(finds(&snapshot, "fresh") && finds(&snapshot, "management"));
    assert_eq!(bench.standing.account_id().as_deref(), Some("acme"));
    assert!(!bench.standing.is_failing());
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let config = Config {
        tokens: vec![token("app", "first")],
        ..Config::default()
    };
    let mut bench = bench(&config);
    bench.set(None);
    bench.keeper.reload(NOW);
    assert!(bench.snapshot().is_none() && bench.standing.is_failing());
    assert_eq!(bench.standing.attempts(), [0, 1]);
    // A later change of tokens is still made on what was in force.
    let mut other = KeyStore::open(bench.dir.path()).unwrap();
    let new = NewKey {
        name: "a",
        permissions: Permissions::RUN,
        expires_at: None,
    };
    other.create(&new, NOW).unwrap();
    bench.keeper.poll(NOW);
    assert!(finds(&bench.snapshot().unwrap(), "first"));
}

#[test]
fn tokens_of_another_process_come_and_go_without_a_command() {
    let mut bench = bench(&Config::default());
    let mut other = KeyStore::open(bench.dir.path()).unwrap();
    let new = NewKey {
        name: "a",
        permissions: Permissions::RUN,
        expires_at: None,
    };
    let (_, made) = other.create(&new, NOW).unwrap();
    bench.keeper.poll(NOW);
    assert!(finds(&bench.snapshot().unwrap(), made.expose()));
    bench.keeper.poll(NOW);
    assert!(bench.snapshot().is_none(), "nothing has changed");
    other.revoke("a", NOW).unwrap();
    bench.keeper.poll(NOW);
    assert!(!finds(&bench.snapshot().unwrap(), made.expose()));
}

/// A gateway as the management API stores it, whose answers are cached for so many seconds.
fn gateway(id: &str, cache_ttl: u64) -> Object {
    let document = json!({"authentication": true, "collect_logs": true, "cache_ttl": cache_ttl});
    stored("", id, document)
}

fn stored(parent: &str, id: &str, document: Value) -> Object {
    let Value::Object(document) = document else {
        panic!("an object");
    };
    Object {
        parent: parent.to_owned(),
        id: id.to_owned(),
        name: id.to_owned(),
        document,
        sealed: None,
        created_at: 0,
        modified_at: 0,
    }
}

#[test]
fn a_change_of_one_gateway_has_that_one_compiled_and_shares_the_others() {
    let mut bench = bench(&Config::default());
    let mut store = Store::open(bench.dir.path()).unwrap();
    let mut change = |bench: &mut Bench, change: &dyn Fn(&Connection)| {
        let done: Result<(), StoreError> = store.change(|connection| {
            change(connection);
            Ok(())
        });
        done.unwrap();
        bench.keeper.poll(NOW);
        bench.snapshot().unwrap()
    };
    let ttl = |snapshot: &Snapshot, id: &str| {
        let gateway = snapshot.shared_gateway(id);
        gateway.map(|gateway| gateway.cache.ttl.as_secs())
    };
    let is_shared = |one: &Snapshot, other: &Snapshot, id: &str| {
        let (one, other) = (one.shared_gateway(id), other.shared_gateway(id));
        Arc::ptr_eq(one.unwrap(), other.unwrap())
    };

    let first = change(&mut bench, &|connection| {
        objects::insert(connection, Kind::Gateway, &gateway("a", 1)).unwrap();
        objects::insert(connection, Kind::Gateway, &gateway("b", 2)).unwrap();
    });
    assert_eq!((ttl(&first, "a"), ttl(&first, "b")), (Some(1), Some(2)));
    let second = change(&mut bench, &|connection| {
        objects::update(connection, Kind::Gateway, &gateway("a", 3)).unwrap();
    });
    assert_eq!((ttl(&second, "a"), ttl(&second, "b")), (Some(3), Some(2)));
    assert!(is_shared(&first, &second, "b"));

    // Credentials come and go with the gateway they belong to.
    let third = change(&mut bench, &|connection| {
        let vault = vault();
        let place = objects::place(Kind::ProviderConfig, "b", "key");
        let document = json!({"provider_slug": "openai", "alias": "default"});
        let credential = Object {
            sealed: Some(vault.seal(&place, "sk-of-b").unwrap()),
            ..stored("b", "key", document)
        };
        objects::insert(connection, Kind::ProviderConfig, &credential).unwrap();
    });
    let has_key = |snapshot: &Snapshot| {
        let gateway = snapshot.shared_gateway("b").unwrap();
        gateway.credential("openai", None).is_some()
    };
    assert!(has_key(&third) && is_shared(&second, &third, "a"));
    let fourth = change(&mut bench, &|connection| {
        objects::delete(connection, Kind::ProviderConfig, "b", "key").unwrap();
    });
    assert!(!has_key(&fourth));

    // The file's gateway of that name wins, as long as it is there.
    let of_file = Gateway {
        cache_ttl: Duration::from_secs(9),
        ..Gateway::default()
    };
    bench.set(Some(Config {
        gateways: [("b".to_owned(), of_file)].into(),
        ..Config::default()
    }));
    bench.keeper.reload(NOW);
    assert_eq!(ttl(&bench.snapshot().unwrap(), "b"), Some(9));
    bench.set(Some(Config::default()));
    bench.keeper.reload(NOW);
    assert_eq!(ttl(&bench.snapshot().unwrap(), "b"), Some(2));

    let last = change(&mut bench, &|connection| {
        objects::delete(connection, Kind::Gateway, "", "a").unwrap();
    });
    assert_eq!((ttl(&last, "a"), ttl(&last, "b")), (None, Some(2)));
}

#[test]
fn an_unchanged_store_is_not_reloaded() {
    let mut bench = bench(&Config::default());
    bench.keeper.poll(NOW);
    assert!(bench.snapshot().is_none());
    assert_eq!(bench.standing.attempts(), [0, 0]);
}

#[test]
fn tokens_that_cannot_be_read_stay_in_force_and_are_complained_of_once() {
    let mut bench = bench(&Config::default());
    let path = bench.dir.path().join(keys::FILE);
    let away = bench.dir.path().join("away");
    fs::rename(&path, &away).unwrap();
    bench.keeper.poll(NOW);
    bench.keeper.poll(NOW);
    assert!(bench.snapshot().is_none() && bench.standing.is_failing());
    assert_eq!(bench.standing.attempts(), [0, 1]);
    fs::rename(&away, &path).unwrap();
    bench.keeper.poll(NOW);
    assert!(bench.snapshot().is_some() && !bench.standing.is_failing());
}

#[test]
fn a_token_ends_when_its_time_is_over() {
    let mut bench = bench(&Config::default());
    let mut other = KeyStore::open(bench.dir.path()).unwrap();
    let new = NewKey {
        name: "a",
        permissions: Permissions::RUN,
        expires_at: Some(NOW + 10),
    };
    let (_, made) = other.create(&new, NOW).unwrap();
    bench.keeper.poll(NOW);
    assert!(finds(&bench.snapshot().unwrap(), made.expose()));
    bench.keeper.poll(NOW + 9);
    assert!(bench.snapshot().is_none());
    bench.keeper.poll(NOW + 10);
    assert!(!finds(&bench.snapshot().unwrap(), made.expose()));
    bench.keeper.poll(NOW + 11);
    assert!(bench.snapshot().is_none());
}

#[test]
fn what_needs_a_restart_is_named_and_left_as_it_is() {
    let mut bench = bench(&Config::default());
    let moved = Config {
        admin: Some("127.0.0.1:9999".parse().unwrap()),
        listen: vec!["127.0.0.1:1".parse().unwrap()],
        shards: Some(7),
        data_dir: "elsewhere".into(),
        ..Config::default()
    };
    let names = fixed_settings(&Config::default(), &moved);
    assert_eq!(names, ["listen", "admin", "data_dir", "shards"]);
    bench.set(Some(moved));
    bench.keeper.reload(NOW);
    // Management would be nowhere, were the new `admin` believed.
    assert!(bench.snapshot().unwrap().management_here);
    assert_eq!(bench.keeper.config.listen, Config::default().listen);
}

#[test]
fn a_file_for_another_audience_is_refused() {
    let running = Config {
        listen: vec!["0.0.0.0:8787".parse().unwrap()],
        ..Config::default()
    };
    let mut bench = bench(&running);
    // Checked for loopback, where nobody needs a token.
    let open = Gateway {
        authentication: false,
        ..Gateway::default()
    };
    let gateways = [("default".to_owned(), open)].into();
    bench.set(Some(Config {
        gateways,
        ..Config::default()
    }));
    bench.keeper.reload(NOW);
    assert!(bench.snapshot().is_none() && bench.standing.is_failing());
}

#[test]
fn a_shard_with_a_full_mailbox_is_told_later() {
    let mut bench = bench(&Config::default());
    let fill = || {
        let answer = ApiAnswer {
            status: 200,
            content_type: "",
            fields: Vec::new(),
            body: Vec::new(),
        };
        Order::Answer { ticket: 0, answer }
    };
    while bench.keeper.shards[1].send(fill()).is_ok() {}
    bench.keeper.reload(NOW);
    assert!(matches!(bench.shards[0].take(), Some(Order::Snapshot(_))));
    while bench.shards[1].take().is_some() {}
    bench.keeper.poll(NOW);
    assert!(matches!(bench.shards[1].take(), Some(Order::Snapshot(_))));
    assert!(bench.shards[0].take().is_none(), "it was told before");
}

#[test]
fn worn_snapshots_are_freed() {
    let mut bench = bench(&Config::default());
    bench.keeper.reload(NOW);
    let snapshot = bench.snapshot().unwrap();
    while bench.shards.iter().any(|shard| shard.take().is_some()) {}
    let weak = Arc::downgrade(&snapshot);
    bench.worn.send(snapshot).unwrap();
    assert!(weak.upgrade().is_some());
    bench.keeper.poll(NOW);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_new_certificate_is_published_once_its_key_is_there_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = Tls {
        cert: dir.path().join("c"),
        key: dir.path().join("k"),
    };
    let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let first = pair();
    fs::write(&files.cert, first.cert.pem()).unwrap();
    fs::write(&files.key, first.signing_key.serialize_pem()).unwrap();
    let mut bench = bench(&Config {
        tls: Some(files.clone()),
        ..Config::default()
    });
    bench.keeper.poll(NOW);
    assert!(!bench.certificate(), "nothing has changed");
    // Written beside and moved, as tools do: a file of its own, whatever the clock says.
    let replace = |path: &Path, text: String| {
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, path).unwrap();
    };
    let second = pair();
    replace(&files.cert, second.cert.pem());
    bench.keeper.poll(NOW);
    assert!(!bench.certificate() && bench.standing.is_failing());
    replace(&files.key, second.signing_key.serialize_pem());
    bench.keeper.poll(NOW);
    assert!(bench.certificate() && !bench.standing.is_failing());
}

#[test]
fn the_thread_does_as_it_is_told_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (parts, ends) = parts(&Config::default(), dir.path());
    let reload = start(parts).unwrap();
    let next = || loop {
        if let Some(order) = ends.shards[0].wait(Duration::from_secs(30)) {
            return order;
        }
    };
    let tokens = vec![token("app", "fresh")];
    *ends.file.lock().unwrap() = Some(Config {
        tokens,
        ..Config::default()
    });
    assert!(reload.commands().send(ReloadCommand::Reload).is_ok());
    let Order::Snapshot(snapshot) = next() else {
        panic!("another order")
    };
    assert!(finds(&snapshot, "fresh"));
    reload.stop();
    drop((ends.worn, ends.standing));
}
