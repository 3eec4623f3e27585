//! MQTT 3.1.1. What 5.0 would say in properties is missing; denied publishes are acknowledged as if they were fine.

use std::time::Duration;

use rumqttc::Outgoing as Sent;
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions,
    Packet, QoS, StateError, SubscribeFilter, SubscribeReasonCode, mqttbytes,
};

use super::{Accepted, Wire, WireEvent, WireFailure, WireSender, class_of_io, text};
use crate::config::{INFLIGHT_MAX, LinkConfig, PACKET_BYTES_MAX, Session};
use crate::desk::REQUESTS_MAX;
use crate::message::{Outgoing, Qos, Subscription, Version};
use crate::versions::ConnectFailure;

pub(crate) struct WireV311 {
    events: EventLoop,
}

impl Wire for WireV311 {
    const VERSION: Version = Version::V311;

    fn open(config: &LinkConfig) -> (Box<dyn WireSender>, Self) {
        let (client, mut events) = AsyncClient::new(options(config), REQUESTS_MAX);
        events.set_network_options(super::network_options(config));
        (Box::new(Sender(client)), Self { events })
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

impl WireV311 {
    fn translate(&self, event: Event) -> WireEvent {
        match event {
            Event::Incoming(Packet::ConnAck(answer)) => WireEvent::Accepted(Accepted {
                session_present: answer.session_present,
                packet_bytes_max: None,
                inflight_max: INFLIGHT_MAX,
                keep_alive: self.events.mqtt_options.keep_alive(),
            }),
            Event::Incoming(Packet::Publish(message)) => WireEvent::Message {
                topic: message.topic,
                payload: message.payload,
                retain: message.retain,
            },
            Event::Incoming(Packet::PubAck(answer)) => {
                WireEvent::PublishAnswered { id: answer.pkid, code: 0 }
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
}

struct Sender(AsyncClient);

impl WireSender for Sender {
    fn publish(&self, message: &Outgoing, _expires_in: Option<Duration>) -> bool {
        let payload = message.payload.clone();
        self.0
            .try_publish(message.topic.as_str(), qos(message.qos), message.retain, payload)
            .is_ok()
    }

    fn subscribe(&self, batch: &[Subscription]) -> bool {
        let filters =
            batch.iter().map(|one| SubscribeFilter::new(one.filter.clone(), qos(one.qos)));
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
    options
        .set_clean_session(config.session == Session::Clean)
        .set_keep_alive(config.keep_alive)
        .set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize)
        .set_inflight(INFLIGHT_MAX)
        .set_manual_acks(false)
        .set_transport(super::transport(config));
    if let Some(credentials) = &config.credentials {
        options.set_credentials(credentials.username.as_str(), credentials.password.as_str());
    }
    if let Some(will) = &config.will {
        let payload = will.payload.to_vec();
        options.set_last_will(LastWill::new(&will.topic, payload, qos(will.qos), will.retain));
    }
    options
}

fn describe(failure: &ConnectionError) -> WireFailure {
    use mqttbytes::Error;
    let (class, reason) = match failure {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => {
            (ConnectFailure::VersionRefused, text::refused(&"RefusedProtocolVersion"))
        }
        ConnectionError::ConnectionRefused(code) => (ConnectFailure::Other, text::refused(code)),
        ConnectionError::NotConnAck(_) => (ConnectFailure::HungUp, failure.to_string()),
        ConnectionError::NetworkTimeout => (ConnectFailure::NoAnswer, text::NO_ANSWER.into()),
        ConnectionError::MqttState(error) => match error {
            StateError::ConnectionAborted => (ConnectFailure::HungUp, text::HUNG_UP.into()),
            StateError::AwaitPingResp => (ConnectFailure::Other, text::NO_PING.into()),
            // the answer of a broker that has 5.0 only
            StateError::Deserialization(Error::InvalidConnectReturnCode(0x84)) => {
                (ConnectFailure::VersionRefused, text::refused(&"UnsupportedProtocolVersion"))
            }
            StateError::Io(source) | StateError::Deserialization(Error::Io(source)) => {
                (class_of_io(source), text::io(source))
            }
            StateError::Deserialization(_) => (ConnectFailure::HungUp, error.to_string()),
            _ => (ConnectFailure::Other, error.to_string()),
        },
        ConnectionError::Tls(error) => (ConnectFailure::Other, text::tls(error)),
        _ => (ConnectFailure::Other, failure.to_string()),
    };
    WireFailure { class, reason }
}

fn qos(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
    }
}

fn subscribe_code(reason: SubscribeReasonCode) -> u8 {
    match reason {
        SubscribeReasonCode::Success(qos) => qos as u8,
        SubscribeReasonCode::Failure => 0x80,
    }
}
