//! temporary
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() {
    let file = std::env::args().skip_while(|a| a != "--config").nth(1);
    let text = file
        .as_ref()
        .map(|f| std::fs::read_to_string(f).unwrap())
        .unwrap_or_default();
    let flags = tidegate::config::Flags::default();
    let base = std::path::PathBuf::from(file.as_deref().unwrap_or("."))
        .parent()
        .unwrap()
        .to_path_buf();
    let loaded = tidegate::config::load(
        &text,
        "tidegate.toml",
        &base,
        &tidegate::config::Sources {
            env: &|n| std::env::var(n).ok(),
            read_file: &|p| std::fs::read_to_string(p),
            known_provider: &|s| tidegate::provider::by_slug(s).is_some(),
            picked_up_keys: &[],
            flags: &flags,
        },
    );
    let loaded = match loaded {
        Ok(l) => l,
        Err(p) => {
            eprintln!("{p}");
            std::process::exit(2)
        }
    };
    let server = match tidegate::server::start(tidegate::server::Options {
        config: loaded.config,
        reload: None,
    }) {
        Ok(s) => s,
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1)
        }
    };
    eprintln!("listening on {:?} {}", server.addresses(), server.driver());
    let control = server.control();
    std::thread::spawn(move || {
        let mut s = signal_hook::iterator::Signals::new([15, 2]).unwrap();
        for _ in s.forever() {
            control.drain();
        }
    });
    server.join().unwrap();
}
