use super::{Config, Limit, Role, Sources, example};
use std::io::Write;
use std::time::Duration;

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { variables, ..Sources::default() }
}

fn file(text: &str) -> (tempfile::NamedTempFile, Sources) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    (file, sources)
}

fn refusal(sources: &Sources) -> String {
    sources.load().unwrap_err().to_string()
}

#[test]
fn without_sources_every_setting_has_its_default() {
    let config = Sources::default().load().unwrap().config;
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.heartbeat, Duration::from_secs(30));
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_file() {
    let (_kept, mut sources) = file("drain_seconds = 1\nheartbeat_seconds = 1\nidle_timeout_seconds = 1\n");
    sources.variables =
        variables(&[("ROOST_HEARTBEAT_SECONDS", "2"), ("ROOST_DRAIN_SECONDS", "2")]).variables;
    sources.flags = vec![("drain_seconds", "3".to_owned())];
    let config = sources.load().unwrap().config;
    let seconds = [config.idle_timeout, config.heartbeat, config.drain].map(|span| span.as_secs());
    assert_eq!(seconds, [1, 2, 3]);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let (kept, _) = file("role = \"api\"\n");
    let config = variables(&[("ROOST_CONFIG", kept.path().to_str().unwrap())]).load().unwrap().config;
    assert_eq!(config.role, Role::Api);
}

#[test]
fn lists_are_by_comma_in_text_and_arrays_in_the_file() {
    let text = variables(&[
        ("ROOST_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7,::1"),
        ("ROOST_ALLOWED_ORIGINS", "https://a.example,http://localhost:3000/"),
        ("ROOST_JWT_ISSUERS", r#"[{"issuer":"i","audience":"a","jwks":"keys.json"}]"#),
    ])
    .load()
    .unwrap()
    .config;
    let (_kept, sources) = file(
        "trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\", \"::1\"]\n\
         allowed_origins = [\"https://a.example\", \"http://localhost:3000\"]\n\
         [[jwt_issuers]]\nissuer = \"i\"\naudience = \"a\"\njwks = \"keys.json\"\n",
    );
    let toml = sources.load().unwrap().config;
    assert_eq!(text.trusted_proxies.len(), 3);
    assert_eq!(text.trusted_proxies[1].to_string(), "192.0.2.7/32");
    assert_eq!(text.allowed_origins[1].as_str(), "http://localhost:3000");
    assert_eq!(text.jwt_issuers[0].jwks, "keys.json");
    assert_eq!(format!("{text:?}"), format!("{toml:?}"));
}

#[test]
fn zero_is_no_limit_and_empty_is_nothing() {
    let config = variables(&[("ROOST_LIMIT_POSTS_PER_MINUTE", "0"), ("ROOST_METRICS_LISTEN", "")]);
    let config = config.load().unwrap().config;
    assert_eq!(config.limit_posts_per_minute, Limit::NONE);
    assert_eq!(config.metrics_listen, None);
}

#[test]
fn a_wrong_value_is_refused_in_one_line_that_names_it() {
    for (name, value, told) in [
        ("ROOST_HEARTBEAT_SECONDS", "abc", "\"abc\" is not a whole number of seconds"),
        ("ROOST_HEARTBEAT_SECONDS", "-1", "\"-1\" is not a whole number of seconds"),
        ("ROOST_HEARTBEAT_SECONDS", "1.5", "\"1.5\" is not a whole number of seconds"),
        ("ROOST_HEARTBEAT_SECONDS", "99999999999", "\"99999999999\" is not a whole number of seconds"),
        ("ROOST_HEARTBEAT_SECONDS", "0", "must be at least 1"),
        ("ROOST_LISTEN", "8080", "\"8080\" is not an address with a port, such as 127.0.0.1:8080"),
        ("ROOST_ROLE", "both", "\"both\" is not one of api, realtime, all"),
        ("ROOST_DATA_DIR", "", "\"\" is not a path"),
        ("ROOST_LIMIT_FOLLOWEES", "many", "\"many\" is not a whole number (0 is no limit)"),
        ("ROOST_LOG", "roost=loud", "\"roost=loud\" is not a log filter, such as info or info,roost=debug"),
        ("ROOST_EVENTS_URL", "ftp://x", "\"ftp://x\" is not an address that starts with http:// or https://"),
        (
            "ROOST_NODE_NAME",
            "a b",
            "\"a b\" is not a name of 1 to 64 letters, digits, dots, hyphens or underscores",
        ),
        ("ROOST_JWT_SECRET", "short", "must be at least 32 bytes long"),
        ("ROOST_TLS_CERT", "c.pem", "needs tls_key as well"),
        ("ROOST_TLS_KEY", "k.pem", "needs tls_cert as well"),
        ("ROOST_EVENTS_SECRET", "s", "needs events_url as well"),
        ("ROOST_OUTBOX_BYTES", "100", "must be at least 16384"),
        ("ROOST_REDIS_CA", "ca.pem", "needs redis_url as well"),
        ("ROOST_EVENTS_STREAM", "roost:events", "needs redis_url as well"),
        ("ROOST_EVENTS_STREAM_LENGTH", "0", "must be at least 1"),
    ] {
        assert_eq!(refusal(&variables(&[(name, value)])), format!("{name}: {told}"));
    }
    for (name, value) in [
        ("ROOST_TRUSTED_PROXIES", "10.0.0.0/8,nonsense"),
        ("ROOST_ALLOWED_ORIGINS", "*"),
        ("ROOST_REDIS_URL", "redis//:hunter2@somewhere"),
        ("ROOST_ALLOWED_ORIGINS", "https://a.example/path"),
        ("ROOST_JWT_ISSUERS", "{}"),
        ("ROOST_JWT_ISSUERS", r#"[{"issuer":"i"}]"#),
    ] {
        let line = refusal(&variables(&[(name, value)]));
        assert!(line.starts_with(&format!("{name}: ")) && !line.contains('\n'), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn the_file_is_refused_by_line_and_name() {
    for (text, told) in [
        (
            "heartbeat_seconds = \"30\"",
            "heartbeat_seconds: \"30\" (in quotes) is not a whole number of seconds",
        ),
        ("listen = 8080", "listen: is not an address with a port, such as 127.0.0.1:8080 in quotes"),
        (
            "heartbeat_second = 3",
            "there is no setting \"heartbeat_second\" (did you mean \"heartbeat_seconds\"?)",
        ),
        ("cassandra = \"x\"", "there is no setting \"cassandra\""),
        ("tls_cert = \"c.pem\"", "tls_cert: needs tls_key as well"),
        ("trusted_proxies = \"10.0.0.0/8\"", "trusted_proxies: \"10.0.0.0/8\" is not a list"),
    ] {
        let (kept, sources) = file(text);
        assert_eq!(refusal(&sources), format!("{}: {told}", kept.path().display()));
    }
    let (_kept, sources) = file("listen = \"127.0.0.1:1\"\njwt_secret = hunter2\n");
    let line = refusal(&sources);
    assert!(line.contains("line 2 is not TOML") && !line.contains("hunter2"), "{line}");
    let missing = Sources { file: Some("/nowhere/roost.toml".into()), ..Sources::default() };
    assert!(refusal(&missing).starts_with("/nowhere/roost.toml: cannot be read"));
}

#[test]
fn a_secret_is_never_repeated() {
    let (_kept, sources) = file("jwt_secret = 12345678");
    assert!(!refusal(&sources).contains("1234"));
    let config = variables(&[
        ("ROOST_JWT_SECRET", "hunter2hunter2hunter2hunter2hunter2"),
        ("ROOST_EVENTS_URL", "https://me:hunter2@sink.example/hunter2?key=hunter2"),
        ("ROOST_EVENTS_SECRET", "hunter2"),
    ]);
    assert!(!format!("{:?}", config.load().unwrap()).contains("hunter2"));
}

#[test]
fn an_unknown_variable_of_ours_is_told_and_stops_nothing() {
    let loaded = variables(&[("ROOST_LISTENN", "x"), ("ROOST_TOKEN", "t"), ("HOME", "/")]).load().unwrap();
    assert_eq!(loaded.warnings, ["ROOST_LISTENN: there is no such setting; it is not read"]);
}

#[test]
fn the_example_file_says_what_the_table_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, example()).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == example(),
        "config.example.toml is not of this table: run this test with UPDATE_EXPECT=1"
    );
}

#[test]
fn every_value_in_the_example_can_be_read() {
    let text = example();
    let values: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| {
            let name = line.split(" = ").next().unwrap();
            Config::SETTINGS.iter().any(|setting| setting.name == name)
        })
        .collect();
    assert_eq!(values.len(), Config::SETTINGS.len());
    for line in values {
        let table: toml::Table = line.parse().unwrap();
        let (name, value) = table.iter().next().unwrap();
        let mut config = Config::default();
        assert_eq!(config.set(name, &super::value::Given::Toml(value)), Some(Ok(())), "{line}");
    }
}
