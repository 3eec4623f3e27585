//! Who gets in by which door, as a table.

use std::net::Ipv4Addr;

use fleetway_controller::access::SESSION_S;

use super::*;

const NETWORK: Door = Door::Network { tls: false, from: IpAddr::V4(Ipv4Addr::LOCALHOST) };

fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

/// Access with one token, which is also returned.
fn access(role: Role, life_s: u64) -> (Access, String) {
    let secret = Secret::new([7; 32]);
    let access = Access::default();
    access.set(vec![TokenView {
        name: "ci".into(),
        role,
        digest: secret.digest(),
        created_by: "ann".into(),
        created_s: 0,
        expires_s: clock::now_s() + life_s,
    }]);
    (access, secret.to_string())
}

fn kind(found: Result<Caller, Failure>) -> Result<(String, Role), Kind> {
    found.map(|caller| (caller.name, caller.role)).map_err(|failure| failure.code)
}

#[test]
fn the_socket_s_owner_is_admin_and_the_network_needs_a_token() {
    let (access, token) = access(Role::Operator, 60);
    let ask = |door, lines: &[_]| kind(access.find(door, &Method::POST, &headers(lines)));
    let bearer = |token: &str| vec![("authorization", format!("Bearer {token}"))];
    let named = |name: &str| vec![(OPERATOR, name.to_owned())];
    let ci = Ok(("ci".to_owned(), Role::Operator));
    assert_eq!(ask(Door::Socket, &named("ann")), Ok(("ann".to_owned(), Role::Admin)));
    assert_eq!(ask(Door::Socket, &[]), Ok(("operator".to_owned(), Role::Admin)));
    // Who shows a token is held to it, wherever.
    assert_eq!(ask(Door::Socket, &bearer(&token)), ci);
    assert_eq!(ask(Door::Socket, &bearer("fwt_00")), Err(Kind::Unauthenticated));
    assert_eq!(ask(NETWORK, &bearer(&token)), ci);
    assert_eq!(ask(NETWORK, &named("ann")), Err(Kind::Unauthenticated));
    for wrong in ["", "fwt_", &token[..67], &token.to_uppercase(), &token.replace("07", "08")] {
        assert_eq!(ask(NETWORK, &bearer(wrong)), Err(Kind::Unauthenticated), "{wrong}");
    }
    let basic = [("authorization", format!("Basic {token}"))];
    assert_eq!(ask(NETWORK, &basic), Err(Kind::Unauthenticated));
}

#[test]
fn a_token_that_is_over_or_gone_lets_nobody_in_nor_does_its_session() {
    let (old, token) = access(Role::Admin, 0);
    let bearer = headers(&[("authorization", format!("Bearer {token}"))]);
    assert_eq!(kind(old.find(NETWORK, &Method::GET, &bearer)), Err(Kind::Unauthenticated));
    assert!(old.open(&token).unwrap().is_none());

    let (access, token) = access(Role::Admin, 60);
    let (cookie, _) = access.open(&token).unwrap().unwrap();
    let cookie = headers(&[("cookie", format!("fleetway={cookie}"))]);
    assert!(access.find(NETWORK, &Method::GET, &cookie).is_ok());
    access.set(Vec::new());
    assert_eq!(kind(access.find(NETWORK, &Method::GET, &cookie)), Err(Kind::Unauthenticated));
}

#[test]
fn a_session_s_change_needs_the_proof_and_this_site() {
    let (access, token) = access(Role::Operator, 2 * SESSION_S);
    let (cookie, opened) = access.open(&token).unwrap().unwrap();
    let csrf = opened.csrf.unwrap();
    let ask = |method, more: &[(&'static str, &str)]| {
        let mut lines = vec![("cookie", format!("a=b; fleetway={cookie}")), ("host", "f:1".into())];
        lines.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        kind(access.find(NETWORK, &method, &headers(&lines)))
    };
    let ok = Ok(("ci".to_owned(), Role::Operator));
    let proof = (CSRF, csrf.as_str());
    assert_eq!(ask(Method::GET, &[]), ok);
    assert_eq!(ask(Method::POST, &[proof]), ok);
    assert_eq!(ask(Method::POST, &[proof, ("origin", "http://f:1")]), ok);
    assert_eq!(ask(Method::POST, &[proof, ("sec-fetch-site", "same-origin")]), ok);
    for wrong in [
        &[][..],
        &[(CSRF, "")],
        &[(CSRF, "guess")],
        &[proof, ("origin", "http://evil:1")],
        &[proof, ("origin", "null")],
        &[proof, ("sec-fetch-site", "cross-site")],
        &[proof, ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(ask(Method::POST, wrong), Err(Kind::Forbidden), "{wrong:?}");
        assert_eq!(ask(Method::DELETE, wrong), Err(Kind::Forbidden), "{wrong:?}");
    }
    assert!(opened.expires_s.unwrap() <= clock::now_s() + SESSION_S);
    access.close(&cookie);
    assert_eq!(ask(Method::GET, &[]), Err(Kind::Unauthenticated));
}

#[test]
fn cookies_are_fenced_in() {
    let tls = Door::Network { tls: true, from: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let plain = NETWORK.set_cookie("x", 5);
    assert_eq!(plain, "fleetway=x; Path=/; Max-Age=5; HttpOnly; SameSite=Strict");
    let under_tls = tls.set_cookie("x", 5);
    assert!(under_tls.starts_with("__Host-fleetway=x;") && under_tls.ends_with("; Secure"));
    // A cookie of the plain door is none under TLS.
    let secret = Secret::new([1; 32]);
    assert!(tls.cookie_of(&headers(&[("cookie", format!("fleetway={secret}"))])).is_none());
}

#[test]
fn who_may_what() {
    let all = [
        ("GET", "/v1/openapi.json", None),
        ("POST", "/v1/session", None),
        ("GET", "/v1/session", Some(Role::Viewer)),
        ("GET", "/v1/devices", Some(Role::Viewer)),
        ("GET", "/no/such/page", Some(Role::Viewer)),
        ("POST", "/no/such/page", Some(Role::Operator)),
        ("POST", "/v1/rollouts/plan", Some(Role::Viewer)),
        ("POST", "/v1/rollouts", Some(Role::Operator)),
        ("POST", "/v1/rollouts/{id}/{verb}", Some(Role::Operator)),
        ("POST", "/v1/rollouts/{id}/approve", Some(Role::Approver)),
        ("PUT", "/v1/blobs/{digest}", Some(Role::Operator)),
        ("POST", "/v1/devices/{id}/revoke", Some(Role::Admin)),
        ("POST", "/v1/trust/publish", Some(Role::Admin)),
        ("GET", "/v1/tokens", Some(Role::Admin)),
        ("POST", "/v1/tokens", Some(Role::Admin)),
        ("POST", "/v1/tokens/{name}/revoke", Some(Role::Admin)),
    ];
    for (method, path, role) in all {
        assert_eq!(required(&method.parse().unwrap(), path), role, "{method} {path}");
    }
}
