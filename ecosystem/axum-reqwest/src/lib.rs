//! A bank: an axum server that keeps accounts, and customers who speak HTTP/1 or HTTP/2 with it.
//!
//! Whoever sees no answer asks again, so every deposit has a number, and one that comes twice counts once.

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// What a bank remembers. It stands for a database on another machine: it outlives the server's process.
#[derive(Clone, Default)]
pub struct Ledger {
    accounts: Arc<Mutex<BTreeMap<String, BTreeMap<u64, u64>>>>,
}

/// So much money, under a number that the customer chose.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Deposit {
    /// The number; of deposits with the same number only the first counts.
    pub number: u64,
    /// How much.
    pub amount: u64,
}

/// What an account holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// The sum of all deposits.
    pub total: u64,
    /// How many there were.
    pub deposits: usize,
}

impl Ledger {
    fn deposit(&self, account: &str, deposit: Deposit) -> Balance {
        let mut accounts = self.accounts.lock().unwrap();
        let account = accounts.entry(account.to_owned()).or_default();
        account.entry(deposit.number).or_insert(deposit.amount);
        balance(account)
    }

    /// What an account holds now.
    pub fn balance(&self, account: &str) -> Balance {
        let accounts = self.accounts.lock().unwrap();
        accounts.get(account).map_or(Balance { total: 0, deposits: 0 }, balance)
    }
}

fn balance(account: &BTreeMap<u64, u64>) -> Balance {
    Balance { total: account.values().sum(), deposits: account.len() }
}

/// Serves HTTP/1 and HTTP/2 at `address`, until ctrl-c and what was being answered then.
pub async fn serve(address: &str, ledger: Ledger) -> std::io::Result<()> {
    let app = Router::new()
        .route(
            "/accounts/{name}",
            get(async |State(ledger): State<Ledger>, Path(name): Path<String>| Json(ledger.balance(&name))),
        )
        .route("/accounts/{name}/deposits", post(deposit))
        .with_state(ledger);
    let closing_time = async {
        // Where nobody can say so, it never comes.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    };
    axum::serve(TcpListener::bind(address).await?, app).with_graceful_shutdown(closing_time).await
}

async fn deposit(
    State(ledger): State<Ledger>,
    Path(name): Path<String>,
    Json(deposit): Json<Deposit>,
) -> Json<Balance> {
    Json(ledger.deposit(&name, deposit))
}

/// Which HTTP a customer speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Http {
    /// One request at a time on each connection.
    One,
    /// All on one connection, without TLS, by prior knowledge.
    Two,
}

/// A customer, with one account at one bank.
#[derive(Clone)]
pub struct Customer {
    http: reqwest::Client,
    account: String,
}

impl Customer {
    /// A customer of the bank at `bank`.
    pub fn new(http: Http, bank: &str, name: &str) -> Customer {
        let builder = match http {
            Http::One => reqwest::Client::builder().http1_only(),
            Http::Two => reqwest::Client::builder().http2_prior_knowledge(),
        };
        let http = builder.no_proxy().connect_timeout(ms(500)).timeout(ms(800)).build().expect("no TLS to set up");
        Customer { http, account: format!("http://{bank}/accounts/{name}") }
    }

    /// Pays in until the bank has said that it has it.
    pub async fn deposit(&self, deposit: Deposit) -> Balance {
        until_answered(|| self.http.post(format!("{}/deposits", self.account)).json(&deposit)).await
    }

    /// What the account holds.
    pub async fn balance(&self) -> Balance {
        until_answered(|| self.http.get(&self.account)).await
    }
}

async fn until_answered(request: impl Fn() -> reqwest::RequestBuilder) -> Balance {
    loop {
        let answer = async { request().send().await?.error_for_status()?.json().await };
        match answer.await {
            Ok(balance) => return balance,
            Err(_) => tokio::time::sleep(ms(100)).await,
        }
    }
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
