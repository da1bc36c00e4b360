// A SUT in Go: net/http sends, go-jose verifies through the key set that the responder serves.
//
// Reads a plan from standard input and writes what became of it, both JSON; plan.rs says what is in them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

type step struct {
	Method, Path, Body, Subject string
	Headers                     map[string]string
	Auth                        bool
	Status                      int
	Expected                    any
}

type plan struct {
	Base, JWKS       string
	Issuer, Audience string
	Algs, Tokens     []string
	Users            []struct{ Steps []step }
	Faults           []struct{ Name, Path string }
}

type report struct {
	sync.Mutex
	requests, own, verified int
	wrong                   []string
}

func (r *report) complain(format string, what ...any) {
	r.Lock()
	defer r.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, what...))
}

func fetch(address string) (keys jose.JSONWebKeySet, err error) {
	answer, err := http.Get(address)
	if err != nil {
		return keys, err
	}
	defer answer.Body.Close()
	return keys, json.NewDecoder(answer.Body).Decode(&keys)
}

var errNoKey = errors.New("no key has this kid")

func verify(p *plan, keys jose.JSONWebKeySet, token string, expected jwt.Expected) error {
	algs := []jose.SignatureAlgorithm{}
	for _, alg := range p.Algs {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	parsed, err := jwt.ParseSigned(token, algs)
	if err != nil {
		return err
	}
	named := keys.Key(parsed.Headers[0].KeyID)
	if len(named) == 0 {
		return errNoKey
	}
	if len(named) > 1 {
		return fmt.Errorf("%d keys have the kid %q", len(named), parsed.Headers[0].KeyID)
	}
	claims := jwt.Claims{}
	if err := parsed.Claims(named[0], &claims); err != nil {
		return err
	}
	expected.Time = time.Now()
	return claims.ValidateWithLeeway(expected, 0)
}

// Why go-jose refuses a token, in words that all libraries share.
func reason(err error) string {
	known := []struct {
		is   error
		word string
	}{
		{nil, "accepted"},
		{jwt.ErrExpired, "expired"},
		{jwt.ErrNotValidYet, "not yet valid"},
		{jwt.ErrIssuedInTheFuture, "issued in the future"},
		{jwt.ErrInvalidAudience, "wrong audience"},
		{jwt.ErrInvalidIssuer, "wrong issuer"},
		{jose.ErrCryptoFailure, "bad signature"},
		{errNoKey, "no such key"},
	}
	for _, one := range known {
		if errors.Is(err, one.is) {
			return one.word
		}
	}
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	if errors.As(err, &alg) {
		return "algorithm not allowed"
	}
	if strings.Contains(err.Error(), "three parts") {
		return "malformed"
	}
	return err.Error()
}

// How go-jose takes tokens that are unsound in one way each.
func refusals(p *plan, keys jose.JSONWebKeySet) map[string]any {
	told := map[string]string{}
	for _, fault := range p.Faults {
		answer, err := http.Get(p.Base + fault.Path)
		if err != nil {
			panic(err)
		}
		body := struct {
			Token string `json:"access_token"`
		}{}
		err = json.NewDecoder(answer.Body).Decode(&body)
		answer.Body.Close()
		if err != nil {
			panic(err)
		}
		expected := jwt.Expected{Issuer: p.Issuer, AnyAudience: jwt.Audience{p.Audience}}
		told[fault.Name] = reason(verify(p, keys, body.Token, expected))
	}
	return map[string]any{"go-jose": told}
}

func run(p *plan, keys jose.JSONWebKeySet, steps []step, r *report) {
	held := map[string]string{}
	for _, s := range steps {
		what := s.Method + " " + s.Path
		body := s.Body
		for name, value := range held {
			body = strings.ReplaceAll(body, "{"+name+"}", url.QueryEscape(value))
		}
		request, err := http.NewRequest(s.Method, p.Base+s.Path, strings.NewReader(body))
		if err != nil {
			r.complain("%s: %v", what, err)
			return
		}
		for name, value := range s.Headers {
			request.Header.Set(name, value)
		}
		if s.Auth {
			request.Header.Set("Authorization", "Bearer "+held["access_token"])
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			r.complain("%s: %v", what, err)
			return
		}
		text, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			r.complain("%s: %v", what, err)
			return
		}
		var got any = string(text)
		var value any
		if json.NewDecoder(bytes.NewReader(text)).Decode(&value) == nil {
			got = value
		}
		object, isObject := got.(map[string]any)
		expected, isExpected := s.Expected.(map[string]any)
		if isObject && isExpected {
			for _, name := range p.Tokens {
				token, there := object[name].(string)
				if !there {
					continue
				}
				if err := verify(p, keys, token, jwt.Expected{Subject: s.Subject}); err != nil {
					r.complain("%s: go-jose: %v", what, err)
				} else {
					r.Lock()
					r.verified++
					r.Unlock()
				}
				held[name] = token
				delete(object, name)
				delete(expected, name)
			}
		}
		right := answer.StatusCode == s.Status && reflect.DeepEqual(got, s.Expected)
		r.Lock()
		r.requests++
		if right {
			r.own++
		}
		r.Unlock()
		if !right {
			r.complain("%s: %d %v, not %d %v", what, answer.StatusCode, got, s.Status, s.Expected)
		}
	}
}

func main() {
	p := &plan{}
	if err := json.NewDecoder(os.Stdin).Decode(p); err != nil {
		panic(err)
	}
	keys, err := fetch(p.JWKS)
	if err != nil {
		panic(err)
	}
	if p.Faults != nil {
		say(refusals(p, keys))
		return
	}
	r := &report{wrong: []string{}}
	users := sync.WaitGroup{}
	for _, user := range p.Users {
		users.Add(1)
		go func() {
			defer users.Done()
			run(p, keys, user.Steps, r)
		}()
	}
	users.Wait()
	told := map[string]any{"requests": r.requests, "own": r.own, "verified": map[string]int{"go-jose": r.verified}, "wrong": r.wrong}
	say(told)
}

func say(told map[string]any) {
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		panic(err)
	}
}
