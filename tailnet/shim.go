package tailnet

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// shim is a server on loopback in front of one relay. The library speaks to it,
// with its certificate pinned or, if it speaks plain HTTP to all relays, without
// TLS; and the shim speaks to the relay: the other way, with extra headers, or over
// a websocket, whatever the relay needs.
type shim struct {
	target   *url.URL
	port     int
	certName string
	header   func() http.Header
	client   *http.Client
	proxy    *httputil.ReverseProxy
	server   *http.Server
	ws       bool
	wg       sync.WaitGroup
}

func newShim(target *url.URL, plain bool, header func() http.Header, c *tls.Config, ws bool, log *slog.Logger) (*shim, error) {
	l, certName, err := listenShim(plain)
	if err != nil {
		return nil, fmt.Errorf("listen for the relay shim: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2 = false
	transport.TLSClientConfig = c
	s := &shim{
		target: target, port: l.Addr().(*net.TCPAddr).Port, certName: certName,
		header: header, client: &http.Client{Transport: transport}, ws: ws,
	}
	quiet := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	s.proxy = &httputil.ReverseProxy{Rewrite: s.rewrite, Transport: transport, ErrorLog: quiet}
	s.server = &http.Server{Handler: s, ErrorLog: quiet, ReadHeaderTimeout: 10 * time.Second}
	s.wg.Go(func() { _ = s.server.Serve(l) }) // ends with close
	return s, nil
}

// listenShim listens on loopback; certName is how the library recognises the
// shim, "" without TLS.
func listenShim(plain bool) (l net.Listener, certName string, err error) {
	if plain {
		l, err = net.Listen("tcp", "127.0.0.1:0")
		return l, "", err
	}
	cert, sum, err := pinnedCertificate()
	if err != nil {
		return nil, "", fmt.Errorf("make a certificate: %w", err)
	}
	l, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	return l, "sha256-raw:" + hex.EncodeToString(sum[:]), err
}

func (s *shim) extra() http.Header {
	if s.header == nil {
		return http.Header{}
	}
	return s.header()
}

func (s *shim) rewrite(p *httputil.ProxyRequest) {
	p.SetURL(s.target)
	p.Out.Host = s.target.Host
	for name, values := range s.extra() {
		p.Out.Header[name] = values
	}
}

// ServeHTTP passes a request on, as a websocket if relays are to be reached so.
func (s *shim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.ws && strings.EqualFold(r.Header.Get("Upgrade"), "derp") {
		s.overWebsocket(w, r)
		return
	}
	s.proxy.ServeHTTP(w, r)
}

// overWebsocket carries the relay's protocol in a websocket. The first frame that
// the relay sends tells its key, so nothing is missing but the answer's headers.
func (s *shim) overWebsocket(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	dialCtx, cancelDial := context.WithTimeout(ctx, 10*time.Second)
	defer cancelDial()
	ws, _, err := websocket.Dial(dialCtx, s.target.JoinPath(r.URL.Path).String(), &websocket.DialOptions{
		HTTPClient: s.client, HTTPHeader: s.extra(), Subprotocols: []string{"derp"}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		http.Error(w, "relay: "+err.Error(), http.StatusBadGateway)
		return
	}
	ws.SetReadLimit(-1)
	out := websocket.NetConn(ctx, ws, websocket.MessageBinary)
	defer out.Close()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(out, buffered)
		_ = out.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
	})
	both.Wait()
}

func (s *shim) close() {
	_ = s.server.Close()
	s.wg.Wait()
	s.client.CloseIdleConnections()
}

// pinnedCertificate makes a certificate for 127.0.0.1 that lives as long as the
// process, and the sum by which it is recognised.
func pinnedCertificate() (tls.Certificate, [32]byte, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, [32]byte{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(20, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return tls.Certificate{}, [32]byte{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, sha256.Sum256(der), nil
}
