//! MQTT 5.0.

use std::time::Duration;

use rumqttc::Outgoing as Sent;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectProperties, ConnectReturnCode, DisconnectReasonCode, Filter, LastWill,
    LastWillProperties, Packet, PubAckReason, PublishProperties, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{self, QoS};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};

use super::{Accepted, Wire, WireEvent, WireFailure, WireSender, class_of_io, text};
use crate::config::{INFLIGHT_MAX, LinkConfig, PACKET_BYTES_MAX, RECEIVE_MAX, Session};
use crate::desk::REQUESTS_MAX;
use crate::message::{Outgoing, Qos, Subscription, Version, Will};
use crate::versions::ConnectFailure;

pub(crate) struct WireV5 {
    events: EventLoop,
    keep_alive: Duration,
}

impl Wire for WireV5 {
    const VERSION: Version = Version::V5;

    fn open(config: &LinkConfig) -> (Box<dyn WireSender>, Self) {
        let (client, events) = AsyncClient::new(options(config), REQUESTS_MAX);
        let wire = Self { events, keep_alive: config.keep_alive };
        (Box::new(Sender(client)), wire)
    }

    async fn poll(&mut self) -> Result<WireEvent, WireFailure> {
        match self.events.poll().await {
            Ok(event) => Ok(self.translate(event)),
            Err(failure) => Err(describe(&failure)),
        }
    }

    fn left_over(&mut self) -> Option<WireEvent> {
        let event = self.events.state.events.pop_front()?;
        Some(self.translate(event))
    }
}

impl WireV5 {
    fn translate(&mut self, event: Event) -> WireEvent {
        match event {
            Event::Incoming(Packet::ConnAck(answer)) => WireEvent::Accepted(self.accepted(&answer)),
            Event::Incoming(Packet::Publish(message)) => {
                let Ok(topic) = String::from_utf8(message.topic.to_vec()) else {
                    tracing::warn!(topic = ?message.topic, "message dropped: its topic is not UTF-8");
                    return WireEvent::Other;
                };
                WireEvent::Message { topic, payload: message.payload, retain: message.retain }
            }
            Event::Incoming(Packet::PubAck(answer)) => {
                WireEvent::PublishAnswered { id: answer.pkid, code: publish_code(answer.reason) }
            }
            Event::Incoming(Packet::SubAck(answer)) => WireEvent::SubscribeAnswered {
                id: answer.pkid,
                codes: answer.return_codes.into_iter().map(subscribe_code).collect(),
            },
            Event::Incoming(Packet::UnsubAck(answer)) => {
                WireEvent::UnsubscribeAnswered { id: answer.pkid }
            }
            Event::Outgoing(Sent::Publish(id) | Sent::Subscribe(id) | Sent::Unsubscribe(id)) => {
                WireEvent::Written { id }
            }
            _ => WireEvent::Other,
        }
    }

    fn accepted(&mut self, answer: &ConnAck) -> Accepted {
        // a broker that says "no keep-alive" would make rumqttc ping in a loop
        if self.events.options.keep_alive().is_zero() {
            self.events.options.set_keep_alive(self.keep_alive);
        }
        let granted = answer.properties.as_ref();
        let receive_max = granted.and_then(|granted| granted.receive_max);
        Accepted {
            session_present: answer.session_present,
            packet_bytes_max: granted.and_then(|granted| granted.max_packet_size),
            inflight_max: receive_max.unwrap_or(INFLIGHT_MAX).min(INFLIGHT_MAX),
            keep_alive: self.events.options.keep_alive(),
        }
    }
}

struct Sender(AsyncClient);

impl WireSender for Sender {
    fn publish(&self, message: &Outgoing, expires_in: Option<Duration>) -> bool {
        let (topic, payload) = (message.topic.as_str(), message.payload.clone());
        let (qos, retain) = (qos(message.qos), message.retain);
        let sent = match expires_in {
            None => self.0.try_publish(topic, qos, retain, payload),
            Some(time) => {
                let properties = PublishProperties {
                    // rounded up: 0 would mean that it is too old already
                    message_expiry_interval: Some(seconds(time).saturating_add(1)),
                    ..Default::default()
                };
                self.0.try_publish_with_properties(topic, qos, retain, payload, properties)
            }
        };
        sent.is_ok()
    }

    fn subscribe(&self, batch: &[Subscription]) -> bool {
        // Retained messages are wanted on every subscribe: a session that is "present" may still have lost some.
        let filters = batch.iter().map(|one| Filter::new(one.filter.as_str(), qos(one.qos)));
        self.0.try_subscribe_many(filters).is_ok()
    }

    fn unsubscribe(&self, filter: &str) -> bool {
        self.0.try_unsubscribe(filter).is_ok()
    }

    fn disconnect(&self) -> bool {
        self.0.try_disconnect().is_ok()
    }
}

fn options(config: &LinkConfig) -> MqttOptions {
    let (host, port) = (config.url.host(), config.url.port());
    let mut options = MqttOptions::new(config.client_id.as_str(), host, port);
    let expiry = match config.session {
        Session::Persistent(expiry) => seconds(expiry),
        Session::Clean => 0,
    };
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(expiry);
    properties.receive_maximum = Some(RECEIVE_MAX);
    properties.max_packet_size = Some(PACKET_BYTES_MAX);
    options
        .set_connect_properties(properties)
        .set_clean_start(config.session == Session::Clean)
        .set_keep_alive(config.keep_alive)
        .set_connection_timeout(config.connect_timeout.as_secs())
        .set_network_options(super::network_options(config))
        .set_outgoing_inflight_upper_limit(INFLIGHT_MAX)
        .set_manual_acks(false)
        .set_transport(super::transport(config));
    if let Some(credentials) = &config.credentials {
        options.set_credentials(credentials.username.as_str(), credentials.password.as_str());
    }
    if let Some(will) = &config.will {
        options.set_last_will(last_will(will));
    }
    options
}

fn last_will(will: &Will) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: Some(seconds(will.delay)),
        payload_format_indicator: None,
        message_expiry_interval: None,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let payload = will.payload.to_vec();
    LastWill::new(will.topic.as_str(), payload, qos(will.qos), will.retain, Some(properties))
}

fn describe(failure: &ConnectionError) -> WireFailure {
    let (class, reason) = match failure {
        ConnectionError::ConnectionRefused(code) => {
            let version = matches!(
                code,
                ConnectReturnCode::UnsupportedProtocolVersion
                    | ConnectReturnCode::RefusedProtocolVersion
            );
            let class =
                if version { ConnectFailure::VersionRefused } else { ConnectFailure::Other };
            (class, text::refused(code))
        }
        ConnectionError::NotConnAck(_) => (ConnectFailure::HungUp, failure.to_string()),
        ConnectionError::Timeout(_) => (ConnectFailure::NoAnswer, text::NO_ANSWER.into()),
        ConnectionError::MqttState(error) => describe_state(error),
        ConnectionError::Tls(error) => (ConnectFailure::Other, text::tls(error)),
        _ => (ConnectFailure::Other, failure.to_string()),
    };
    WireFailure { class, reason }
}

fn describe_state(error: &StateError) -> (ConnectFailure, String) {
    use mqttbytes::Error;
    match error {
        StateError::ConnectionAborted => (ConnectFailure::HungUp, text::HUNG_UP.into()),
        StateError::AwaitPingResp => (ConnectFailure::Other, text::NO_PING.into()),
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => (ConnectFailure::Other, text::TAKEN_OVER.into()),
        // the answer of a 3.1.1 broker
        StateError::Deserialization(Error::InvalidConnectReturnCode(1)) => {
            (ConnectFailure::VersionRefused, text::refused(&"RefusedProtocolVersion"))
        }
        StateError::Io(source) | StateError::Deserialization(Error::Io(source)) => {
            (class_of_io(source), text::io(source))
        }
        StateError::Deserialization(_) => (ConnectFailure::HungUp, error.to_string()),
        _ => (ConnectFailure::Other, error.to_string()),
    }
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn publish_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn subscribe_code(reason: SubscribeReasonCode) -> u8 {
    match reason {
        SubscribeReasonCode::Success(qos) => qos as u8,
        SubscribeReasonCode::Failure | SubscribeReasonCode::Unspecified => 0x80,
        SubscribeReasonCode::ImplementationSpecific => 0x83,
        SubscribeReasonCode::NotAuthorized => 0x87,
        SubscribeReasonCode::TopicFilterInvalid => 0x8F,
        SubscribeReasonCode::PkidInUse => 0x91,
        SubscribeReasonCode::QuotaExceeded => 0x97,
        SubscribeReasonCode::SharedSubscriptionsNotSupported => 0x9E,
        SubscribeReasonCode::SubscriptionIdNotSupported => 0xA1,
        SubscribeReasonCode::WildcardSubscriptionsNotSupported => 0xA2,
    }
}
