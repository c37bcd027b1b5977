//! A server behind TLS and its clients under drawn trouble.

use rcgen::CertifiedKey;
use sim::{Plan, Sim, millis, secs};
use vault::{Client, Store};

/// Everything but the disk's faults: the server has no files.
const TROUBLE: [&str; 9] =
    ["partition", "one-way", "delay", "loss", "kill", "power-cycle", "pause", "clock-bump", "clock-drift"];
const KEYS: [&str; 3] = ["ann", "bob", "cid"];
const VERSIONS: u64 = 15;

#[sim::test(seeds = 500)]
async fn acknowledged_versions_stay(sim: Sim) {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["vault".to_owned()]).unwrap();
    let (cert, store) = (cert.der().clone(), Store::default());
    let (chain, kept) = (vec![cert.clone()], store.clone());
    sim.node("vault").start(move || {
        let key = signing_key.serialize_der().try_into().expect("rcgen writes a key that rustls reads");
        let (chain, store) = (chain.clone(), kept.clone());
        async move { vault::serve("0.0.0.0:443", chain, key, store).await }
    });
    let clients = KEYS.map(|key| (key, sim.node(key)));
    sim.plan(Plan::swarm().only(&TROUBLE).until(secs(20)));
    let working = clients.map(|(key, node)| {
        let cert = cert.clone();
        node.run(async move {
            let mut client = Client::new("vault", 443, cert);
            for version in 1..=VERSIONS {
                let put = client.put(key, version).await;
                sim.check("another version was put", put == version, || format!("{key}: {put} in place of {version}"));
                let got = client.get(key).await;
                sim.check("an acknowledged version is gone", got == version, || {
                    format!("{key}: {got} in place of {version}")
                });
                if version % 5 == 0 {
                    client.close().await;
                }
                tokio::time::sleep(millis(1200)).await;
            }
            client.handshakes()
        })
    });
    // Three clients, fifteen versions, one read after each: 90 requests in every run.
    let mut resumed = 0;
    for client in working {
        let handshakes = client.await;
        assert!(handshakes.full > 0, "{handshakes:?}");
        resumed += handshakes.resumed;
    }
    assert_eq!(store.lock().unwrap().values().copied().collect::<Vec<_>>(), [VERSIONS; 3]);
    sim.healed().await;
    // A server that was killed has forgotten its tickets.
    sim.check("nobody used a ticket", resumed > 0 || !sim.trouble().is_empty(), || "in a run without trouble".into());
    let other = rcgen::generate_simple_self_signed(["vault".to_owned()]).unwrap().cert.der().clone();
    let refused = sim.node("ann").run(async { Client::new("vault", 443, other).once("get ann\n").await }).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("certificate")), "a certificate that nobody signed");
}
