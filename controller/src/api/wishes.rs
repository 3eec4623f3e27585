//! A shadow and a hold, from the request's words to the order's terms.

use fleetway_protocol::hold::{Condition, Conditions, Hold};
use fleetway_protocol::shadow::{Otherwise, ShadowPolicy};

use super::failure::{Failure, Kind};
use super::types::{HoldRequest, ShadowRequest};

/// Without a number for it, a device is idle after a minute.
const IDLE_S: u32 = 60;

pub(super) fn shadow(request: &ShadowRequest) -> Result<ShadowPolicy, Failure> {
    let default = ShadowPolicy { share_permille: request.share_permille, ..Default::default() };
    let word = |text: &Option<String>, default| text.as_deref().map_or(Ok(default), otherwise);
    Ok(ShadowPolicy {
        answers_min: request.answers_min.unwrap_or(default.answers_min),
        agreement_permille_min: request
            .agreement_permille_min
            .unwrap_or(default.agreement_permille_min),
        error_permille_max: request.error_permille_max.unwrap_or(default.error_permille_max),
        p95_percent_max: request.p95_percent_max.unwrap_or(default.p95_percent_max),
        s_max: request.s_max.unwrap_or(default.s_max),
        otherwise: word(&request.otherwise, default.otherwise)?,
        interface_differs: word(&request.interface_differs, default.interface_differs)?,
        ..default
    })
}

fn otherwise(text: &str) -> Result<Otherwise, Failure> {
    match text {
        "proceed" => Ok(Otherwise::Proceed),
        "wait" => Ok(Otherwise::Wait),
        "fail" => Ok(Otherwise::Fail),
        _ => Err(wrong(text, "is none of proceed, wait and fail")),
    }
}

pub(super) fn hold(request: &HoldRequest) -> Result<Hold, Failure> {
    let conditions = |words: &[String]| {
        words.iter().try_fold(Conditions::NONE, |all, word| match word.parse::<Condition>() {
            Ok(condition) => Ok(all.with(condition)),
            Err(error) => Err(wrong(word, &error.to_string())),
        })
    };
    let window = request.window.as_deref().unwrap_or_default();
    let window = match window {
        "" => Default::default(),
        text => text.parse().map_err(|error: fleetway_protocol::hold::WindowError| {
            wrong(text, &error.to_string())
        })?,
    };
    Ok(Hold {
        download: conditions(&request.download)?,
        activation: conditions(&request.activation)?,
        idle_s: request.idle_s.unwrap_or(IDLE_S),
        window,
        s_max: request.s_max.unwrap_or(0),
    })
}

fn wrong(text: &str, what: &str) -> Failure {
    Failure::new(Kind::Usage, format!("{text:?} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_terms_or_are_named() {
        let text = |text: &str| Some(text.to_owned());
        let asked = ShadowRequest {
            share_permille: 100,
            answers_min: Some(7),
            otherwise: text("wait"),
            ..Default::default()
        };
        let policy = shadow(&asked).unwrap();
        assert_eq!((policy.share_permille, policy.answers_min), (100, 7));
        assert_eq!(policy.otherwise, Otherwise::Wait);
        assert_eq!(policy.interface_differs, ShadowPolicy::default().interface_differs);
        let refused = shadow(&ShadowRequest { otherwise: text("maybe"), ..asked }).unwrap_err();
        assert!(refused.message.contains("\"maybe\" is none of proceed"), "{}", refused.message);

        let asked = HoldRequest {
            activation: vec!["unlocked".into(), "window".into()],
            window: text("daily 01:00-02:00"),
            ..Default::default()
        };
        let policy = hold(&asked).unwrap();
        assert!(policy.activation.has(Condition::Window) && policy.download.is_empty());
        assert_eq!((policy.idle_s, policy.window.from_min, policy.s_max), (IDLE_S, 60, 0));
        for wrong in [
            HoldRequest { download: vec!["noon".into()], ..Default::default() },
            HoldRequest { window: text("noon"), ..Default::default() },
        ] {
            assert!(hold(&wrong).unwrap_err().message.contains("\"noon\" is no "));
        }
    }
}
