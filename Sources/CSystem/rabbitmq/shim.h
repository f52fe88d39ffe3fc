/* What librabbitmq offers and Swift cannot call or read: variadic functions, macros with casts, unions of frames. */
#ifndef CLINKER_RABBITMQ_SHIM_H
#define CLINKER_RABBITMQ_SHIM_H

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static inline amqp_bytes_t clinker_amqp_bytes(const char *text, size_t length) {
    amqp_bytes_t bytes = {length, (void *)text};
    return bytes;
}

/* Why a call failed: 0 it did not, 1 the library or the network, else the broker's reply code. */
static inline int clinker_amqp_problem(amqp_rpc_reply_t reply, char *text, size_t size) {
    amqp_bytes_t said = {0, NULL};
    int code = 1;
    text[0] = 0;
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL: return 0;
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD && reply.reply.decoded) {
            amqp_connection_close_t *close = (amqp_connection_close_t *)reply.reply.decoded;
            code = close->reply_code;
            said = close->reply_text;
        } else if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD && reply.reply.decoded) {
            amqp_channel_close_t *close = (amqp_channel_close_t *)reply.reply.decoded;
            code = close->reply_code;
            said = close->reply_text;
        }
        snprintf(text, size, "%.*s", (int)(said.len < 1000 ? said.len : 1000), said.bytes ? (char *)said.bytes : "");
        return code > 1 ? code : 1;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION: snprintf(text, size, "%s", amqp_error_string2(reply.library_error)); return 1;
    default: snprintf(text, size, "the broker closed the connection"); return 1;
    }
}

/* Logs in; `name` is what the broker shows of the connection. An empty `user` with `external` leaves the identity to the certificate. */
static inline amqp_rpc_reply_t clinker_amqp_login(
    amqp_connection_state_t connection, const char *vhost, int heartbeat, int external, const char *user, const char *password, const char *name) {
    amqp_table_entry_t abilities[3], properties[2];
    const char *able[3] = {"authentication_failure_close", "connection.blocked", "basic.nack"};
    for (int i = 0; i < 3; i++) {
        abilities[i].key = amqp_cstring_bytes(able[i]);
        abilities[i].value.kind = AMQP_FIELD_KIND_BOOLEAN;
        abilities[i].value.value.boolean = 1;
    }
    properties[0].key = amqp_cstring_bytes("capabilities");
    properties[0].value.kind = AMQP_FIELD_KIND_TABLE;
    properties[0].value.value.table.num_entries = 3;
    properties[0].value.value.table.entries = abilities;
    properties[1].key = amqp_cstring_bytes("connection_name");
    properties[1].value.kind = AMQP_FIELD_KIND_UTF8;
    properties[1].value.value.bytes = amqp_cstring_bytes(name);
    amqp_table_t table = {2, properties};
    if (external)
        return amqp_login_with_properties(connection, vhost, 0, 131072, heartbeat, &table, AMQP_SASL_METHOD_EXTERNAL, user);
    return amqp_login_with_properties(connection, vhost, 0, 131072, heartbeat, &table, AMQP_SASL_METHOD_PLAIN, user, password);
}

static inline amqp_rpc_reply_t clinker_amqp_declare_exchange(
    amqp_connection_state_t connection, const char *name, int passive, int durable, int auto_delete) {
    amqp_exchange_declare(
        connection, 1, amqp_cstring_bytes(name), amqp_cstring_bytes("topic"), passive, durable, auto_delete, 0, amqp_empty_table);
    return amqp_get_rpc_reply(connection);
}

/* How a queue is declared besides its name; numbers of 0 are left out. */
struct clinker_amqp_queue {
    int passive, durable, auto_delete, quorum, mirrored;
    int delivery_limit, memory_length, memory_bytes;
};

static inline amqp_rpc_reply_t clinker_amqp_declare_queue(
    amqp_connection_state_t connection, const char *name, struct clinker_amqp_queue how) {
    amqp_table_entry_t entries[5];
    int count = 0;
    if (how.mirrored) {
        entries[count].key = amqp_cstring_bytes("x-ha-policy");
        entries[count].value.kind = AMQP_FIELD_KIND_UTF8;
        entries[count++].value.value.bytes = amqp_cstring_bytes("all");
    }
    if (how.quorum) {
        entries[count].key = amqp_cstring_bytes("x-queue-type");
        entries[count].value.kind = AMQP_FIELD_KIND_UTF8;
        entries[count++].value.value.bytes = amqp_cstring_bytes("quorum");
        const char *names[3] = {"x-delivery-limit", "x-max-in-memory-length", "x-max-in-memory-bytes"};
        int limits[3] = {how.delivery_limit, how.memory_length, how.memory_bytes};
        for (int i = 0; i < 3; i++) {
            if (limits[i] <= 0) continue;
            entries[count].key = amqp_cstring_bytes(names[i]);
            entries[count].value.kind = AMQP_FIELD_KIND_I32;
            entries[count++].value.value.i32 = limits[i];
        }
    }
    amqp_table_t table = {count, entries};
    amqp_queue_declare(connection, 1, amqp_cstring_bytes(name), how.passive, how.durable, 0, how.auto_delete, table);
    return amqp_get_rpc_reply(connection);
}

/* The answer to a broker that closed the channel; then it can be opened again. */
static inline void clinker_amqp_channel_closed(amqp_connection_state_t connection) {
    amqp_channel_close_ok_t answer;
    memset(&answer, 0, sizeof answer);
    amqp_send_method(connection, 1, AMQP_CHANNEL_CLOSE_OK_METHOD, &answer);
}

static inline amqp_rpc_reply_t clinker_amqp_bind(amqp_connection_state_t connection, const char *queue, const char *exchange) {
    amqp_queue_bind(connection, 1, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange), amqp_cstring_bytes(queue), amqp_empty_table);
    return amqp_get_rpc_reply(connection);
}

/* Publishes a persistent message of JSON that has to find a queue; a status of the library. */
static inline int clinker_amqp_publish(
    amqp_connection_state_t connection, const char *exchange, const char *key, const char *id, const void *body, size_t length) {
    amqp_basic_properties_t properties;
    memset(&properties, 0, sizeof properties);
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
        AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG;
    properties.content_type = amqp_cstring_bytes("application/json");
    properties.content_encoding = amqp_cstring_bytes("utf-8");
    properties.delivery_mode = 2;
    properties.priority = 0;
    properties.message_id = amqp_cstring_bytes(id);
    return amqp_basic_publish(
        connection, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), 1, 0, &properties,
        clinker_amqp_bytes((const char *)body, length));
}

enum clinker_amqp_kind {
    CLINKER_AMQP_NOTHING, /* no frame came in time */
    CLINKER_AMQP_OTHER,
    CLINKER_AMQP_ACK,
    CLINKER_AMQP_NACK,
    CLINKER_AMQP_RETURN,
    CLINKER_AMQP_BLOCKED,
    CLINKER_AMQP_UNBLOCKED,
    CLINKER_AMQP_CLOSED, /* by the broker: `code`, `text` */
    CLINKER_AMQP_FAILED, /* the connection: `text` */
};

struct clinker_amqp_event {
    int kind, multiple, code;
    uint64_t tag;
    char text[1024];
    char id[64];
};

static inline void clinker_amqp_say(struct clinker_amqp_event *event, amqp_bytes_t said) {
    snprintf(event->text, sizeof event->text, "%.*s", (int)(said.len < 1000 ? said.len : 1000), said.bytes ? (char *)said.bytes : "");
}

/* What the broker says next; waits at most so long for it. Sends heartbeats when they are due. */
static inline void clinker_amqp_next(amqp_connection_state_t connection, int milliseconds, struct clinker_amqp_event *event) {
    memset(event, 0, sizeof *event);
    amqp_maybe_release_buffers(connection);
    struct timeval patience = {milliseconds / 1000, milliseconds % 1000 * 1000};
    amqp_frame_t frame;
    int status = amqp_simple_wait_frame_noblock(connection, &frame, &patience);
    if (status == AMQP_STATUS_TIMEOUT) return;
    if (status != AMQP_STATUS_OK) {
        event->kind = CLINKER_AMQP_FAILED;
        snprintf(event->text, sizeof event->text, "%s", amqp_error_string2(status));
        return;
    }
    event->kind = CLINKER_AMQP_OTHER;
    if (frame.frame_type != AMQP_FRAME_METHOD || !frame.payload.method.decoded) return;
    void *decoded = frame.payload.method.decoded;
    switch (frame.payload.method.id) {
    case AMQP_BASIC_ACK_METHOD:
        event->kind = CLINKER_AMQP_ACK;
        event->tag = ((amqp_basic_ack_t *)decoded)->delivery_tag;
        event->multiple = ((amqp_basic_ack_t *)decoded)->multiple;
        break;
    case AMQP_BASIC_NACK_METHOD:
        event->kind = CLINKER_AMQP_NACK;
        event->tag = ((amqp_basic_nack_t *)decoded)->delivery_tag;
        event->multiple = ((amqp_basic_nack_t *)decoded)->multiple;
        break;
    case AMQP_BASIC_RETURN_METHOD: {
        event->kind = CLINKER_AMQP_RETURN;
        event->code = ((amqp_basic_return_t *)decoded)->reply_code;
        clinker_amqp_say(event, ((amqp_basic_return_t *)decoded)->reply_text);
        amqp_message_t message;
        amqp_rpc_reply_t reply = amqp_read_message(connection, frame.channel, &message, 0);
        if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
            event->kind = CLINKER_AMQP_FAILED;
            clinker_amqp_problem(reply, event->text, sizeof event->text);
            break;
        }
        if (message.properties._flags & AMQP_BASIC_MESSAGE_ID_FLAG && message.properties.message_id.len < sizeof event->id)
            memcpy(event->id, message.properties.message_id.bytes, message.properties.message_id.len);
        amqp_destroy_message(&message);
        break;
    }
    case AMQP_CONNECTION_BLOCKED_METHOD:
        event->kind = CLINKER_AMQP_BLOCKED;
        clinker_amqp_say(event, ((amqp_connection_blocked_t *)decoded)->reason);
        break;
    case AMQP_CONNECTION_UNBLOCKED_METHOD: event->kind = CLINKER_AMQP_UNBLOCKED; break;
    case AMQP_CONNECTION_CLOSE_METHOD:
        event->kind = CLINKER_AMQP_CLOSED;
        event->code = ((amqp_connection_close_t *)decoded)->reply_code;
        clinker_amqp_say(event, ((amqp_connection_close_t *)decoded)->reply_text);
        break;
    case AMQP_CHANNEL_CLOSE_METHOD:
        event->kind = CLINKER_AMQP_CLOSED;
        event->code = ((amqp_channel_close_t *)decoded)->reply_code;
        clinker_amqp_say(event, ((amqp_channel_close_t *)decoded)->reply_text);
        break;
    }
}

#endif
