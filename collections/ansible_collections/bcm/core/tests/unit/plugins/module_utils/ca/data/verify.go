// Copyright (c) 2026, Bitcoin Cache Machine contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Verifies a chain and its revocation lists with crypto/x509, and prints OK or what is wrong.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"time"
)

type request struct {
	Chain, Trust, Lists, Usage, Host string
	Time                             int64
}

func blocks(text string) (found [][]byte) {
	for rest := []byte(text); ; {
		block, left := pem.Decode(rest)
		if block == nil {
			return
		}
		found, rest = append(found, block.Bytes), left
	}
}

func certificates(text string) (found []*x509.Certificate, err error) {
	for _, der := range blocks(text) {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		found = append(found, certificate)
	}
	return
}

func pool(found []*x509.Certificate) *x509.CertPool {
	made := x509.NewCertPool()
	for _, certificate := range found {
		made.AddCert(certificate)
	}
	return made
}

// current is the list that the issuer of a certificate has signed and that is good at a time.
func current(lists []*x509.RevocationList, issuer *x509.Certificate, now time.Time) *x509.RevocationList {
	for _, list := range lists {
		signed := bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId) && list.CheckSignatureFrom(issuer) == nil
		if signed && !now.Before(list.ThisUpdate) && now.Before(list.NextUpdate) {
			return list
		}
	}
	return nil
}

func verify(asked request) error {
	chain, err := certificates(asked.Chain)
	if err != nil {
		return err
	}
	trust, err := certificates(asked.Trust)
	if err != nil {
		return err
	}
	var lists []*x509.RevocationList
	for _, der := range blocks(asked.Lists) {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return err
		}
		lists = append(lists, list)
	}
	usage := map[string]x509.ExtKeyUsage{"server": x509.ExtKeyUsageServerAuth, "client": x509.ExtKeyUsageClientAuth}
	now := time.Unix(asked.Time, 0)
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots:         pool(trust),
		Intermediates: pool(chain[1:]),
		DNSName:       asked.Host,
		KeyUsages:     []x509.ExtKeyUsage{usage[asked.Usage]},
		CurrentTime:   now,
	})
	if err != nil || asked.Lists == "" {
		return err
	}
	for place, certificate := range paths[0][:len(paths[0])-1] {
		list := current(lists, paths[0][place+1], now)
		if list == nil {
			return fmt.Errorf("%s has no current revocation list", paths[0][place+1].Subject)
		}
		for _, entry := range list.RevokedCertificateEntries {
			if entry.SerialNumber.Cmp(certificate.SerialNumber) == 0 {
				return fmt.Errorf("%s is revoked", certificate.Subject)
			}
		}
	}
	return nil
}

func main() {
	var asked request
	err := json.NewDecoder(os.Stdin).Decode(&asked)
	if err == nil {
		err = verify(asked)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("OK")
}
