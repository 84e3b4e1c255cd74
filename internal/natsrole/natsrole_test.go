package natsrole_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/freehold-db/freehold/internal/access"
	"github.com/freehold-db/freehold/internal/clienttls"
	"github.com/freehold-db/freehold/internal/natslink"
	"github.com/freehold-db/freehold/internal/natsrole"
	"github.com/freehold-db/freehold/internal/natsserver"
	"github.com/freehold-db/freehold/internal/pki"
	"github.com/freehold-db/freehold/internal/traffic"
	"github.com/freehold-db/freehold/shardmap"
)

var quiet = slog.New(slog.DiscardHandler)

// who is somebody connected to a server on which everybody has a role.
type who struct {
	*nats.Conn
	js     jetstream.JetStream
	denied chan string
}

type world struct {
	t   *testing.T
	url string
	tls clienttls.Files
	dir string
	own *natsserver.Server
}

// start runs a server with TLS on which the roles are the only ones to connect.
func start(t *testing.T, roles ...natsrole.Role) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	ca, err := pki.Open(filepath.Join(w.dir, "pki"))
	require.NoError(t, err)
	server, err := ca.Server("nats")
	require.NoError(t, err)
	pair, err := tls.LoadX509KeyPair(server.Certificate, server.Key)
	require.NoError(t, err)
	client, err := ca.Client("client")
	require.NoError(t, err)
	w.tls = clienttls.Files{CA: ca.Root(), Certificate: client.Certificate, Key: client.Key}
	var users []natsrole.User
	for _, r := range roles {
		key, err := natslink.Seed(w.seed(r))
		require.NoError(t, err)
		users = append(users, natsrole.User{Key: key, Role: r})
	}
	w.own, err = natsserver.Start(t.Context(), natsserver.Config{Dir: filepath.Join(w.dir, "store"), Users: users, Log: quiet, TLS: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.own.Stop(context.Background()) })
	w.url = w.own.URL()
	return w
}

func (w *world) seed(r natsrole.Role) string { return filepath.Join(w.dir, r.Name+".nk") }

func (w *world) as(r natsrole.Role) who {
	w.t.Helper()
	denied := make(chan string, 1000)
	nc, err := natslink.Connect(natslink.Config{URL: w.url, SeedFile: w.seed(r), TLS: w.tls}, r, r.Name, quiet,
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err.Error() }), nats.Timeout(20*time.Second))
	require.NoError(w.t, err)
	w.t.Cleanup(nc.Close)
	require.Eventually(w.t, nc.IsConnected, 30*time.Second, 10*time.Millisecond, "%s cannot connect", r.Name)
	js, err := jetstream.New(nc)
	require.NoError(w.t, err)
	return who{nc, js, denied}
}

// refused tells what the server said no to while do ran.
func (c who) refused(t *testing.T, do func()) (said []string) {
	t.Helper()
	do()
	const last = "nobody.may" // what is refused is said in order
	require.NoError(t, c.Publish(last, nil))
	for {
		select {
		case s := <-c.denied:
			if strings.Contains(s, last) {
				return said
			}
			said = append(said, s)
		case <-time.After(30 * time.Second):
			t.Fatal("the server refuses nothing")
		}
	}
}

// buckets are made by the control plane, as its publisher makes them.
func buckets(t *testing.T, cp who) {
	t.Helper()
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket, shardmap.BucketNodes} {
		_, err := cp.js.CreateOrUpdateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: b, History: 1})
		require.NoError(t, err, b)
	}
	_, err := cp.js.CreateOrUpdateStream(t.Context(), access.AuditStreamConfig(1))
	require.NoError(t, err)
}

func watched(t *testing.T, kv jetstream.KeyValue) map[string]string {
	t.Helper()
	w, err := kv.WatchAll(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, w.Stop()) }()
	all := map[string]string{}
	for {
		select {
		case e := <-w.Updates():
			if e == nil {
				return all
			}
			all[e.Key()] = string(e.Value())
		case <-time.After(30 * time.Second):
			t.Fatal("the bucket cannot be watched")
		}
	}
}

// Everything that the parts do is allowed: buckets, watches, questions, answers, reports.
func TestRolesSufficeForTheirWork(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.ControlPlane(), natsrole.Node("n1"), natsrole.Node("host.example.n2"))
	cp, n1, n2 := w.as(natsrole.ControlPlane()), w.as(natsrole.Node("n1")), w.as(natsrole.Node("host.example.n2"))
	buckets(t, cp)
	buckets(t, cp) // and again, by another replica
	ctx := t.Context()

	places, err := cp.js.KeyValue(ctx, shardmap.BucketPlacements)
	require.NoError(t, err)
	rev, err := places.Create(ctx, "acme", []byte("1"))
	require.NoError(t, err)
	_, err = places.Update(ctx, "acme", []byte("2"), rev)
	require.NoError(t, err)
	seen, err := n1.js.KeyValue(ctx, shardmap.BucketPlacements)
	require.NoError(t, err)
	entry, err := seen.Get(ctx, "acme")
	require.NoError(t, err)
	require.Equal(t, "2", string(entry.Value()))
	_, err = seen.Status(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"acme": "2"}, watched(t, seen))
	require.Equal(t, map[string]string{"acme": "2"}, watched(t, places))
	require.NoError(t, places.Delete(ctx, "acme"))

	beats, err := n2.js.KeyValue(ctx, shardmap.BucketNodes)
	require.NoError(t, err)
	_, err = beats.Put(ctx, "host.example.n2", []byte("{}"))
	require.NoError(t, err)
	alive, err := cp.js.KeyValue(ctx, shardmap.BucketNodes)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"host.example.n2": "{}"}, watched(t, alive))
	require.NoError(t, beats.Purge(ctx, "host.example.n2"))

	// A question to all nodes, and the answers.
	for _, n := range []struct {
		who
		name string
	}{{n1, "n1"}, {n2, "host.example.n2"}} {
		_, err := n.Subscribe(shardmap.SubjectHold+"*", func(m *nats.Msg) { _ = n.Publish(shardmap.AnswerOf(m.Reply, n.name), []byte(n.name)) })
		require.NoError(t, err)
		require.NoError(t, n.Flush())
	}
	reply, all := shardmap.AnswersTo("q1")
	answers, err := cp.SubscribeSync(all)
	require.NoError(t, err)
	require.NoError(t, cp.PublishRequest(shardmap.SubjectHold+"acme", reply, nil))
	for range 2 {
		m, err := answers.NextMsg(30 * time.Second)
		require.NoError(t, err)
		require.True(t, shardmap.Spoke(m.Subject, string(m.Data)))
	}

	// Reports.
	reports, err := cp.SubscribeSync(traffic.Subject + "*")
	require.NoError(t, err)
	require.NoError(t, cp.Flush())
	require.NoError(t, n2.Publish(traffic.Subject+shardmap.NodeToken("host.example.n2"), []byte("r")))
	_, err = reports.NextMsg(30 * time.Second)
	require.NoError(t, err)
	demand, err := n1.SubscribeSync(natsrole.SubjectDemand + "*")
	require.NoError(t, err)
	require.NoError(t, n1.Publish(natsrole.SubjectDemand+"n1", nil))
	_, err = demand.NextMsg(30 * time.Second)
	require.NoError(t, err)
	_, err = n1.js.Publish(ctx, access.AuditSubject+"n1", []byte("e"))
	require.NoError(t, err)
	stream, err := cp.js.Stream(ctx, access.AuditStream)
	require.NoError(t, err)
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "controlplane", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	m, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, m.DoubleAck(ctx))
	for _, c := range []who{cp, n1, n2} {
		require.Empty(t, c.refused(t, func() {}))
	}
}

// What a node that was taken over tries: each is refused by the server, and nothing has changed.
func TestANodeSpeaksForItselfOnly(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.ControlPlane(), natsrole.Node("n1"), natsrole.Node("n2"))
	cp, n1, n2 := w.as(natsrole.ControlPlane()), w.as(natsrole.Node("n1")), w.as(natsrole.Node("n2"))
	buckets(t, cp)
	places, err := cp.js.KeyValue(t.Context(), shardmap.BucketPlacements)
	require.NoError(t, err)
	_, err = places.Put(t.Context(), "acme", []byte("true"))
	require.NoError(t, err)

	var publish []string
	for _, b := range []string{shardmap.BucketPlacements, shardmap.BucketShards, access.Bucket} {
		publish = append(publish, "$KV."+b+".acme")
	}
	publish = append(publish, "$KV."+shardmap.BucketNodes+".n2", shardmap.SubjectHold+"acme", shardmap.SubjectRelease+"acme",
		traffic.Subject+"n2", natsrole.SubjectDemand+"n2", access.AuditSubject+"n2", access.AuditSubjectOfAll, shardmap.SubjectAnswers+"q.n2",
		natsrole.Node("n2").Inbox()+".x", natsrole.ControlPlane().Inbox()+".x", "anything", "$SYS.REQ.SERVER.PING")
	for _, stream := range []string{"KV_" + shardmap.BucketPlacements, "KV_" + shardmap.BucketNodes, "KV_" + access.Bucket, access.AuditStream} {
		for _, verb := range []string{"CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "MSG.GET", "SNAPSHOT", "RESTORE", "PEER.REMOVE", "LEADER.STEPDOWN"} {
			publish = append(publish, "$JS.API.STREAM."+verb+"."+stream)
		}
	}
	for _, stream := range []string{"KV_" + shardmap.BucketNodes, access.AuditStream} { // what nodes write, nodes don't read
		publish = append(publish, "$JS.API.DIRECT.GET."+stream, "$JS.API.DIRECT.GET."+stream+".x", "$JS.API.CONSUMER.CREATE."+stream+".c",
			"$JS.API.CONSUMER.CREATE."+stream, "$JS.API.CONSUMER.DURABLE.CREATE."+stream+".c", "$JS.API.CONSUMER.MSG.NEXT."+stream+".controlplane",
			"$JS.ACK."+stream+".controlplane.1.1.1.1.1", "$JS.API.CONSUMER.DELETE."+stream+".controlplane")
	}
	publish = append(publish, "$JS.API.STREAM.CREATE.OWN", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.OTHER")
	for _, subject := range publish {
		said := n1.refused(t, func() { require.NoError(t, n1.Publish(subject, []byte("forged"))) })
		require.Len(t, said, 1, subject)
		require.Contains(t, said[0], `Permissions Violation for Publish to "`+subject+`"`)
	}
	for _, subject := range []string{">", "$KV.>", "$JS.>", "$SYS.>", natsrole.Node("n2").Inbox() + ".>", natsrole.ControlPlane().Inbox() + ".>",
		"freehold.inbox.>", "_INBOX.>", shardmap.SubjectAnswers + ">", traffic.Subject + "*", access.AuditSubject + "*"} {
		said := n1.refused(t, func() {
			_, err := n1.SubscribeSync(subject)
			require.NoError(t, err)
		})
		require.Len(t, said, 1, subject)
		require.Contains(t, strings.ToLower(said[0]), "permissions violation for subscription", subject)
	}

	// Nor by having somebody else say it: answering oneself, or having JetStream
	// deliver what oneself wrote.
	heard, err := n1.SubscribeSync(natsrole.SubjectDemand + "*")
	require.NoError(t, err)
	require.NoError(t, n1.PublishRequest(natsrole.SubjectDemand+"n1", "$KV.placements.acme", nil))
	m, err := heard.NextMsg(30 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "$KV.placements.acme", m.Reply)
	require.Len(t, n1.refused(t, func() { require.NoError(t, m.Respond([]byte("forged"))) }), 1)
	beat, err := n1.js.KeyValue(t.Context(), shardmap.BucketNodes)
	require.NoError(t, err)
	_, err = beat.Put(t.Context(), "n1", []byte("forged"))
	require.NoError(t, err)
	consumer, err := json.Marshal(map[string]any{"stream_name": "KV_nodes", "config": map[string]any{"name": "c", "deliver_subject": "$KV.placements.acme", "ack_policy": "none"}})
	require.NoError(t, err)
	for _, subject := range []string{"$JS.API.CONSUMER.CREATE.KV_nodes.c", "$JS.API.CONSUMER.CREATE.KV_placements.c"} { // the second names the stream that it may read
		n1.refused(t, func() { require.NoError(t, n1.PublishRequest(subject, n1.NewRespInbox(), consumer)) })
	}
	require.Equal(t, map[string]string{"acme": "true"}, watched(t, places))
	require.Empty(t, n2.refused(t, func() {}))
}

// The control plane takes nothing away: a replica that was taken over can't purge or delete streams.
func TestTheControlPlaneDeletesNoStream(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.ControlPlane())
	cp := w.as(natsrole.ControlPlane())
	buckets(t, cp)
	for _, stream := range []string{"KV_placements", access.AuditStream} {
		for _, verb := range []string{"DELETE", "PURGE", "MSG.DELETE"} {
			subject := "$JS.API.STREAM." + verb + "." + stream
			require.Len(t, cp.refused(t, func() { require.NoError(t, cp.Publish(subject, nil)) }), 1, subject)
		}
	}
}

// Without a key, with another's, without a certificate, or without TLS nobody gets in.
func TestStrangersStayOut(t *testing.T) {
	t.Parallel()
	w := start(t, natsrole.Node("n1"))
	stranger := filepath.Join(t.TempDir(), "stranger.nk")
	_, err := natslink.Seed(stranger)
	require.NoError(t, err)
	plain := strings.Replace(w.url, "tls://", "nats://", 1)
	for name, cfg := range map[string]natslink.Config{
		"no key":         {URL: w.url, TLS: w.tls},
		"another key":    {URL: w.url, TLS: w.tls, SeedFile: stranger},
		"no certificate": {URL: w.url, TLS: clienttls.Files{CA: w.tls.CA}, SeedFile: w.seed(natsrole.Node("n1"))},
		"system's roots": {URL: w.url, SeedFile: w.seed(natsrole.Node("n1"))},
		"no TLS":         {URL: plain, SeedFile: w.seed(natsrole.Node("n1"))},
	} {
		refused := make(chan error, 1)
		nc, err := natslink.Connect(cfg, natsrole.Node("n1"), name, quiet, nats.RetryOnFailedConnect(false), nats.Timeout(20*time.Second))
		if err == nil {
			nc.Close()
			refused <- nil
		} else {
			refused <- err
		}
		require.Error(t, <-refused, name)
	}
}
