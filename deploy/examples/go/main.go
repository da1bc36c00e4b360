// A shop in Go that has its answers from an upstream, here a mock, and refuses tokens that go-jose does not accept.
//
//	UPSTREAM  URLs of the upstream, with commas between; asked in turn
//	JWKS_URL  where the issuer publishes its keys
//	PORT      where it listens; a free port by default
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// keys holds the issuer's key set and reads it again for a key that is not in it, at most once a second.
type keys struct {
	url  string
	lock sync.Mutex
	set  jose.JSONWebKeySet
	read time.Time
}

func (k *keys) find(kid string) (jose.JSONWebKey, error) {
	k.lock.Lock()
	defer k.lock.Unlock()
	if found := k.set.Key(kid); len(found) > 0 {
		return found[0], nil
	}
	if time.Since(k.read) > time.Second {
		k.read = time.Now()
		answer, err := http.Get(k.url)
		if err != nil {
			return jose.JSONWebKey{}, err
		}
		defer answer.Body.Close()
		if err := json.NewDecoder(answer.Body).Decode(&k.set); err != nil {
			return jose.JSONWebKey{}, err
		}
	}
	if found := k.set.Key(kid); len(found) > 0 {
		return found[0], nil
	}
	return jose.JSONWebKey{}, fmt.Errorf("the key set has no key %q", kid)
}

func (k *keys) verify(token string) error {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA})
	if err != nil {
		return err
	}
	key, err := k.find(parsed.Headers[0].KeyID)
	if err != nil {
		return err
	}
	var claims jwt.Claims
	if err := parsed.Claims(key, &claims); err != nil {
		return err
	}
	expected := jwt.Expected{Issuer: "https://shop.example", AnyAudience: jwt.Audience{"shop"}, Time: time.Now()}
	return claims.ValidateWithLeeway(expected, 0)
}

func main() {
	var upstreams []*httputil.ReverseProxy
	for _, text := range strings.Split(os.Getenv("UPSTREAM"), ",") {
		upstream, err := url.Parse(text)
		if err != nil {
			log.Fatal(err)
		}
		upstreams = append(upstreams, httputil.NewSingleHostReverseProxy(upstream))
	}
	issuer := &keys{url: os.Getenv("JWKS_URL")}
	var turn atomic.Uint64
	shop := http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if token, is := strings.CutPrefix(in.Header.Get("Authorization"), "Bearer "); is {
			if err := issuer.verify(token); err != nil {
				out.Header().Set("Content-Type", "application/json")
				out.WriteHeader(http.StatusUnauthorized)
				json.NewEncoder(out).Encode(map[string]string{"error": err.Error()})
				return
			}
		}
		upstreams[turn.Add(1)%uint64(len(upstreams))].ServeHTTP(out, in)
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("sut listening on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, shop))
}
